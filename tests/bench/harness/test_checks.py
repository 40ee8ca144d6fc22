"""The gates of the benches let right answers through, whatever the order of ties, and nothing else; fitted powers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from bench.harness.agreement import ranking_error, step_error, vectors_error
from bench.harness.powers import MIN_ERROR, power_of

K = 5
SIZES = [10.0**exponent for exponent in (4, 4.5, 5, 5.5, 6, 6.5, 7)]
Ranking = tuple[np.ndarray, np.ndarray]


def ranking(truth: np.ndarray, k: int = K) -> Ranking:
    ids = np.argsort(-truth, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(truth, ids, axis=1)


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(0).permuted(np.tile(np.linspace(-1, 1, 50), (3, 1)), axis=1)


def test_right_rankings_pass_with_ties_in_either_order(truth: np.ndarray) -> None:
    ids, scores = ranking(truth)
    assert ranking_error(ids.astype(np.int32), scores.astype(np.float32), truth) is None
    assert ranking_error(*ranking(truth, 50), truth) is None
    outside = ids.copy()
    outside[2, 4] = np.argmin(truth[2])
    assert "session 2, rank 5" in str(ranking_error(outside, scores, truth))
    swapped = ids.copy()
    swapped[1, [2, 3]] = swapped[1, [3, 2]]
    assert "session 1, rank 3" in str(ranking_error(swapped, scores, truth))
    truth[1, ids[1, 3]] = truth[1, ids[1, 2]] - 1e-6
    assert ranking_error(swapped, np.take_along_axis(truth, swapped, axis=1), truth) is None
    wider, _ = ranking(truth, K + 1)
    np.put_along_axis(truth, wider[:, K:], np.take_along_axis(truth, wider[:, K - 1 : K], axis=1), axis=1)
    other = wider[:, [*range(K - 1), K]]  # a tie at the last rank may be either item
    assert ranking_error(other, np.take_along_axis(truth, other, axis=1), truth) is None


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda ids, scores: (np.where(ids == ids[0, 4], ids[0, 0], ids), scores), "listed twice"),
        (lambda ids, scores: (np.where(ids == ids[0, 4], -1, ids), scores), "outside the catalog"),
        (lambda ids, scores: (np.where(ids == ids[0, 4], 50, ids), scores), "outside the catalog"),
        (lambda ids, scores: (ids, scores + 1e-4), "a score is off"),
        (lambda ids, scores: (ids, scores * np.nan), "a score is off"),
        (lambda ids, scores: (ids[:2], scores[:2]), "2 rankings for 3 sessions"),
    ],
)
def test_wrong_rankings_are_named(truth: np.ndarray, break_it: Callable[..., Ranking], reason: str) -> None:
    assert reason in str(ranking_error(*break_it(*ranking(truth)), truth))


def test_vectors_and_steps() -> None:
    eye = np.eye(3)
    assert vectors_error(eye + 1e-7, eye, 1e-6) is None
    for wrong, reason in ((eye + 1e-5, "off by"), (eye * np.nan, "off by"), (eye[:2], "of shape [2, 3]")):
        assert reason in str(vectors_error(wrong, eye, 1e-6))
    ones, zeros = np.ones((2, 2)), np.zeros(3)
    assert step_error(1.0 + 1e-5, [ones, zeros], 1.0, [ones, zeros], 1e-4) is None
    for loss, gradients, reason in (
        (1.1, [ones, zeros], "the loss is 1.1"),
        (math.nan, [ones, zeros], "the loss is nan"),
        (1.0, [ones * 1.01, zeros], "gradient 0 [2, 2]"),
        (1.0, [ones, zeros + 1], "gradient 1 [3]"),
    ):
        assert reason in str(step_error(loss, gradients, 1.0, [ones, zeros], 1e-4))
    with pytest.raises(ValueError, match="argument"):
        step_error(1.0, [ones], 1.0, [ones, zeros], 1e-4)


def noisy(costs: np.ndarray, seed: int) -> list[float]:
    return (costs * np.exp(np.random.default_rng(seed).normal(0, MIN_ERROR, len(costs)))).tolist()


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 2.0])
def test_a_planted_power_lies_in_its_interval(exponent: float) -> None:
    costs = 3e-4 * np.array(SIZES) ** exponent
    assert power_of(SIZES, costs.tolist()).exponent == pytest.approx(exponent, abs=1e-9)
    fits = [power_of(SIZES, noisy(costs, seed)) for seed in range(300)]
    assert sum(fit.low <= exponent <= fit.high for fit in fits) >= 285
