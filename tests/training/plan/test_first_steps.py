"""The first steps of a training, timed: no bit changes, and nothing stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.training import train
from mtaw_fast.training.plan import first_steps
from mtaw_fast.training.plan.estimate import plan_training
from mtaw_fast.training.plan.first_steps import Stopwatch


@pytest.mark.usefixtures("measuring")
def test_measuring_changes_no_bit(
    ring: Dataset, remembering: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = train(ring, remembering, tmp_path / "measured", refit=False)
    monkeypatch.undo()
    plain = train(ring, remembering.replace(softmax="full"), tmp_path / "plain", refit=False)
    for name, weights in plain.model.weights.items():
        assert np.array_equal(weights, measured.model.weights[name]), name
    assert plain.metrics == measured.metrics


@pytest.mark.usefixtures("measuring")
def test_first_steps_leave_nothing_where_they_are_killed(
    ring: Dataset, remembering: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Path]] = []

    def fit(*arguments: object, **settings: object) -> None:
        seen.append(list(tmp_path.iterdir()))

    monkeypatch.setattr(first_steps, "fit_ranker", fit)
    plan_training(ring, remembering, folder=tmp_path)
    assert seen == [[]]


def test_a_stopwatch_counts_work_and_not_waiting() -> None:
    watch = Stopwatch(torch.device("cpu"), 1)
    matrix = torch.ones(400, 400)
    worked = watch.seconds(lambda: [matrix @ matrix for _ in range(20)])
    assert worked > 0
    # What this thread waits for may be work of this process: it does not show the load of the machine.
    assert watch.seconds(lambda: __import__("time").sleep(0.3)) < 0.3
    assert watch.slowdown == 1
    watch.seconds(lambda: __import__("time").sleep(0.1), busy=True)
    assert watch.slowdown > 1
