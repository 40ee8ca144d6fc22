"""The epochs of the encoder: early stopping, and a loss or weights that are not finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import TrainingError
from mtaw_fast.training import train
from mtaw_fast.training.encoder import runner
from mtaw_fast.training.progress import Silent
from tests.support.training.runs import FailsAt, leftovers


@pytest.mark.parametrize("refit", [True, False])
def test_early_stopping_keeps_the_best_epoch(
    ring: Dataset, small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refit: bool
) -> None:
    scores = iter([10.0, 30.0, 20.0, 20.0, 99.0])
    seen: list[np.ndarray] = []

    def fake(model: Any, **_: Any) -> dict[str, float]:
        seen.append(model.item_embedding.detach().numpy().copy())
        return {"P@20": 50.0, "MRR@20": next(scores)}

    monkeypatch.setattr(runner, "validation_metrics", fake)
    config = small.replace(epochs=9, patience=2)
    trained = train(ring, config, tmp_path, refit=refit)
    assert trained.best_epoch == 2
    assert len(seen) == 4
    phases = [record["phase"] for record in trained.history]
    assert phases == ["search"] * 4 + (["refit"] * 2 if refit else [])
    assert np.array_equal(trained.model.weights["item_embedding"], seen[1]) is not refit


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_loss_stops_with_its_place_and_keeps_the_last_epoch(
    ring: Dataset, small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    steps: list[str] = []

    class Counter(Silent):
        def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None:
            steps.append("epoch")

        def step_done(self, sessions: int, loss: float) -> None:
            steps.append("step")

    FailsAt(monkeypatch, 30, value)
    with pytest.raises(TrainingError, match=rf"the loss is {value} in search epoch 2, step \d+ of \d+ \(sessions \d+"):
        train(ring, small, tmp_path, reporter=Counter())
    assert steps.count("epoch") == 2
    assert {"checkpoint-search-1.safetensors", "best-1.safetensors", "state.json"} <= leftovers(tmp_path)
    monkeypatch.undo()
    assert train(ring, small, tmp_path, resume=True).metrics["MRR@20"] > 80


@pytest.mark.parametrize("enabled", [True, False])
def test_a_last_step_that_overflows_is_reported(
    ring: Dataset, remembering: Config, tmp_path: Path, enabled: bool
) -> None:
    """No loss comes after it."""
    config = remembering.replace(enabled=enabled, epochs=1, batch_prefixes=100_000, weight_decay=1e300)
    with pytest.raises(TrainingError, match="item_embedding with a value that is not finite: lower lr or weight_decay"):
        train(ring, config, tmp_path)
