"""The epochs of the encoder: batches made ahead, early stopping, and a loss or weights that are not finite."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import TrainingError
from mtaw_fast.training import train
from mtaw_fast.training.encoder import runner
from mtaw_fast.training.encoder.prefetch import made_ahead
from mtaw_fast.training.steps import full_step
from tests.support.training.runs import fail_at, leftovers


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_all_come_in_order(ahead: int) -> None:
    assert list(made_ahead(lambda n: n * n, range(20), ahead)) == [(n, n * n) for n in range(20)]
    assert not threads()


def test_no_more_are_made_than_may_lie_ready() -> None:
    numbers: list[int] = []
    pairs = made_ahead(numbers.append, range(50), 2)
    for count in range(1, 6):
        next(pairs)
        time.sleep(0.02)
        assert len(numbers) <= count + 2 + 1  # those that are ready, and the one that waits
    pairs.close()  # type: ignore[attr-defined]
    assert not threads()
    assert len(numbers) <= 8


def test_an_error_comes_where_its_batch_is_asked_for() -> None:
    numbers: list[int] = []

    def make(n: int) -> int:
        numbers.append(n)
        if n == 3:
            raise ValueError("batch 3")
        return n

    received = []
    with pytest.raises(ValueError, match="batch 3"):
        received.extend(n for n, _ in made_ahead(make, range(9), 2))
    assert len(numbers) <= 3 + 2 + 2
    assert not threads()


def test_where_the_taker_fails_the_thread_ends() -> None:
    numbers: list[int] = []

    def take() -> None:
        for number, _ in made_ahead(numbers.append, range(1000), 3):
            _ = 1 / (2 - number)

    with pytest.raises(ZeroDivisionError):
        take()
    assert not threads()
    assert len(numbers) <= 2 + 3 + 2


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
    with monkeypatch.context() as patch:
        fail_at(patch, full_step, 30, value)
        with pytest.raises(
            TrainingError, match=rf"loss is {value} in search epoch 2, step \d+ of \d+ \(sessions \d+.*lower lr.* gamma"
        ):
            train(ring, small, tmp_path)
    assert {"checkpoint-search-1.safetensors", "best-1.safetensors", "state.json"} <= leftovers(tmp_path)
    assert train(ring, small, tmp_path, resume=True).metrics["MRR@20"] > 80


@pytest.mark.parametrize("enabled", [True, False])
def test_a_last_step_that_overflows_is_reported(
    ring: Dataset, remembering: Config, tmp_path: Path, enabled: bool
) -> None:
    """No loss comes after it."""
    config = remembering.replace(enabled=enabled, epochs=1, batch_prefixes=100_000, weight_decay=1e300)
    with pytest.raises(TrainingError, match="item_embedding with a value that is not finite: lower lr or weight_decay"):
        train(ring, config, tmp_path)
