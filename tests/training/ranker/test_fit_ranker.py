"""The ranker's fit on made-up candidates with one feature that predicts the next click."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.errors import TrainingError, UsageError
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import RankerNet
from mtaw_fast.training.progress import Silent
from mtaw_fast.training.ranker.fit_ranker import RankerFit, fit_ranker
from tests.support.training.queries import N, dataset_of, drawn

FEATURES = feature_names()
TELLING, NOISE = 3, 5  # columns


class MadeUp:
    """Q queries of 2..C candidates 100..100+C-1; feature 3 is highest at the next click, others are noise."""

    features = FEATURES
    left_out = 0
    weights: np.ndarray | None = None

    def __init__(self, n_queries: int = 900, width: int = 12, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        counts = rng.integers(2, width + 1, n_queries)
        self.ids = np.where(np.arange(width) < counts[:, None], 100 + np.arange(width), -1).astype(np.int32)
        self.positions = rng.integers(0, counts)
        self.values = rng.normal(5, 2, (n_queries, width, len(FEATURES))).astype(np.float32)
        self.values[np.arange(n_queries), self.positions, TELLING] += 9
        self.values[self.ids < 0] = 0
        self.targets = (100 + self.positions).astype(np.int32)
        self.lengths = rng.integers(1, 30, n_queries)

    def batch(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.ids[queries], self.values[queries]

    def hits(self, ranker: RankerNet) -> float:
        scores = np.where(self.ids >= 0, ranker.scores(self.values), -np.inf)
        return float((scores.argmax(axis=1) == self.positions).mean())


SETTINGS = RankerFit(epochs=2, lr=1e-2)


def fitted(made: MadeUp, settings: RankerFit = SETTINGS, seed: int = 0) -> RankerNet:
    return fit_ranker(made, settings, seed, "ranker", Silent())[0]


def test_it_finds_the_feature_that_predicts() -> None:
    samples = MadeUp()
    ranker = fitted(samples, replace(SETTINGS, epochs=30))
    assert samples.hits(ranker) > 0.95
    assert MadeUp(seed=1).hits(ranker) > 0.95
    assert np.abs(ranker.linear).argmax() == TELLING


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    a, b, c = fitted(MadeUp()), fitted(MadeUp()), fitted(MadeUp(), seed=1)
    assert all(np.array_equal(array, b.arrays()[name]) for name, array in a.arrays().items())
    assert not np.array_equal(a.w1, c.w1)


def test_a_feature_left_out_changes_no_score() -> None:
    samples = MadeUp()
    ranker = fitted(samples, replace(SETTINGS, excluded=(FEATURES[TELLING], FEATURES[NOISE])))
    before = ranker.scores(samples.values)
    samples.values[..., [TELLING, NOISE]] = np.random.default_rng(4).normal(0, 50, (*samples.ids.shape, 2))
    assert np.array_equal(ranker.scores(samples.values), before)
    samples.values[..., 0] += 1
    assert not np.array_equal(ranker.scores(samples.values), before)
    with pytest.raises(UsageError, match=f"no feature 'nothing'; choose from {FEATURES[0]}"):
        fitted(samples, replace(SETTINGS, excluded=("nothing",)))


def test_queries_without_their_target_teach_nothing() -> None:
    samples, other = MadeUp(), MadeUp()
    lost = np.arange(0, 900, 3)
    samples.targets[lost] = other.targets[lost] = 7  # no candidate
    other.lengths[lost] += 20  # weighs a query, if its target is a candidate
    (ranker, history), (other_ranker, _) = (fit_ranker(m, SETTINGS, 0, "r", Silent())
                                            for m in (samples, other))  # fmt: skip
    assert history[-1]["in_candidates"] == 66.67
    assert np.array_equal(ranker.w1, other_ranker.w1)
    samples.targets[:] = 7
    with pytest.raises(TrainingError, match="the ranker's 900 samples"):
        fitted(samples)


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(TrainingError, match="the loss is nan in ranker epoch 1; lower ranker_lr"):
        fitted(MadeUp(), replace(SETTINGS, lr=1e20))


def test_drawn_candidates_are_the_target_and_some_others_and_fit_a_ranker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtaw_fast.training.ranker.dataset._MAPPED", 5000)  # so that pages are given back
    dataset = dataset_of(drawn(2, 120), tmp_path)
    queries = np.arange(len(dataset.targets))
    ids, values = dataset.batch(queries)
    some, some_values = dataset.drawn(queries, 7, np.random.default_rng(0))
    assert some.shape == (len(queries), 8) < ids.shape
    for row, query in enumerate(queries):
        chosen = some[row][some[row] >= 0]
        assert len(set(chosen)) == len(chosen) == min(8, np.count_nonzero(ids[row] >= 0))
        assert dataset.targets[query] in chosen
        columns = [ids[row].tolist().index(item) for item in chosen]
        assert np.array_equal(some_values[row][some[row] >= 0], values[row, columns])
    times = np.bincount(some[some >= 0]) / np.maximum(np.bincount(ids[ids >= 0]), 1)
    assert (times[: N - 8] > 0).all()  # none is left out
    for part, whole in zip(dataset.drawn(queries, 100, np.random.default_rng(0)), (ids, values), strict=True):
        assert np.array_equal(part, whole)
    settings = RankerFit(epochs=2, lr=1e-2, batch=32, negatives=7)
    _, history = fit_ranker(dataset, settings, 3, "ranker", Silent())
    assert history[1]["loss"] < history[0]["loss"]


def test_the_rankers_fit_equals_that_of_repeated_queries() -> None:
    plain, weighted, ones, repeated = (MadeUp() for _ in range(4))
    times = np.random.default_rng(1).integers(1, 4, len(plain.targets))
    weighted.weights, ones.weights = times.astype(np.float32), np.ones(len(times), np.float32)
    rows = np.repeat(np.arange(len(times)), times)
    for name in ("ids", "values", "targets", "lengths"):
        setattr(repeated, name, getattr(repeated, name)[rows])
    settings = RankerFit(epochs=2, lr=1e-2, batch=100_000)  # all at once: the same steps
    start, _ = fit_ranker(plain, settings, 0, "r", Silent())
    fits = [fit_ranker(made, settings, 0, "r", Silent(), start) for made in (weighted, repeated, plain, ones)]
    for ours, theirs, unweighted, _ in zip(*(history for _, history in fits), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["loss"] != pytest.approx(unweighted["loss"], rel=1e-4)
        assert ours["losses"] == [pytest.approx(ours["loss"], abs=1e-5)]  # a step an epoch
    for name, array in fits[3][0].arrays().items():
        assert np.array_equal(array, fits[2][0].arrays()[name])
