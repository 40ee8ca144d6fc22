"""The first steps of a training, timed: no bit changes, and nothing stays."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.training import train
from mtaw_fast.training.plan import first_steps
from mtaw_fast.training.plan.estimate import plan_training
from mtaw_fast.training.plan.first_steps import Stopwatch
from mtaw_fast.training.ranker.dataset import RankerDataset


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
    assert seen == 3 * [[]]


@pytest.mark.usefixtures("measuring")
def test_what_a_fit_costs_once_is_not_multiplied_by_its_samples(
    ring: Dataset, remembering: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*arguments: object, **settings: object) -> None:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass

    monkeypatch.setattr(first_steps, "fit_ranker", fit)
    plan = plan_training(ring, remembering.replace(ranker_epochs=1000))
    ranker = next(phase for phase in plan.phases if phase.name == "ranker")
    assert ranker.processor_seconds is not None
    assert 0.2 <= ranker.processor_seconds < 20


def test_a_fit_is_shared_by_the_queries_that_it_leaves_out(
    ring: Dataset, remembering: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs, queries = [0], [0]
    real = first_steps.build_dataset

    class Watch:
        """Counts the epochs of a fit as seconds."""

        def cost(self, work: Callable[[], object]) -> np.ndarray:
            epochs[0] = 0
            work()
            return np.full(2, float(epochs[0]))

    def build(*arguments: Any, **settings: Any) -> RankerDataset:
        dataset = real(*arguments, **settings)
        dataset = dataclasses.replace(dataset, left_out=dataset.left_out + 3 * len(dataset.targets))
        queries[0] = len(dataset.targets) + dataset.left_out
        return dataset

    monkeypatch.setattr(first_steps, "build_dataset", build)
    monkeypatch.setattr(first_steps, "fit_ranker", lambda *arguments: epochs.__setitem__(0, arguments[1].epochs))
    times = first_steps.ranker_times(remembering, ring.train, ring.n_items, ring.min_prefix, Watch())  # type: ignore[arg-type]
    assert queries[0] > 0
    np.testing.assert_allclose(times.fitted * queries[0], 1)


def test_a_stopwatch_counts_work_and_not_waiting() -> None:
    watch = Stopwatch(torch.device("cpu"), 1)
    matrix = torch.ones(400, 400)
    assert (watch.cost(lambda: [matrix @ matrix for _ in range(20)]) > 0).all()
    # What this thread waits for may be work of this process: it does not show the load of the machine.
    assert (watch.cost(lambda: __import__("time").sleep(0.3)) < 0.3).all()
    assert watch.slowdown == 1
    watch.cost(lambda: __import__("time").sleep(0.1), busy=True)
    assert watch.slowdown > 1
