"""The gates of the benches let right answers through, whatever the order of ties, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from bench.harness.agreement import ranking_error, step_error, vectors_error

K = 5


def ranking(truth: np.ndarray, k: int = K) -> tuple[np.ndarray, np.ndarray]:
    ids = np.argsort(-truth, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(truth, ids, axis=1)


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(0).permuted(np.tile(np.linspace(-1, 1, 50), (3, 1)), axis=1)


def test_the_true_ranking_passes(truth):
    ids, scores = ranking(truth)
    assert ranking_error(ids, scores, truth) is None
    assert ranking_error(ids.astype(np.int32), scores.astype(np.float32), truth) is None
    whole = ranking(truth, 50)
    assert ranking_error(*whole, truth) is None


def test_ties_may_stand_in_either_order_and_differences_may_not(truth):
    ids, scores = ranking(truth)
    swapped = ids.copy()
    swapped[1, [2, 3]] = swapped[1, [3, 2]]
    assert "session 1, rank 3" in str(ranking_error(swapped, scores, truth))
    truth[1, ids[1, 3]] = truth[1, ids[1, 2]] - 1e-6
    assert ranking_error(swapped, np.take_along_axis(truth, swapped, axis=1), truth) is None


def test_a_tie_at_the_last_place_may_be_either_item(truth):
    ids, _ = ranking(truth, K + 1)
    for row in range(len(truth)):
        truth[row, ids[row, K]] = truth[row, ids[row, K - 1]]
    other = ids[:, [*range(K - 1), K]]
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
def test_wrong_rankings_are_named(truth, break_it, reason):
    ids, scores = break_it(*ranking(truth))
    assert reason in str(ranking_error(ids, scores, truth))


def test_an_item_from_outside_the_top_is_found(truth):
    ids, scores = ranking(truth)
    ids[2, 4] = np.argmin(truth[2])
    assert "session 2, rank 5" in str(ranking_error(ids, scores, truth))


def test_vectors():
    truth = np.eye(3)
    assert vectors_error(truth + 1e-7, truth, 1e-6) is None
    assert "off by" in str(vectors_error(truth + 1e-5, truth, 1e-6))
    assert "off by" in str(vectors_error(truth * np.nan, truth, 1e-6))
    assert "of shape [2, 3]" in str(vectors_error(truth[:2], truth, 1e-6))


def test_steps():
    gradients = [np.ones((2, 2)), np.zeros(3)]
    assert step_error(1.0 + 1e-5, gradients, 1.0, gradients, 1e-4) is None
    assert "the loss is 1.1" in str(step_error(1.1, gradients, 1.0, gradients, 1e-4))
    assert "the loss is nan" in str(step_error(float("nan"), gradients, 1.0, gradients, 1e-4))
    assert "gradient 0 [2, 2]" in str(step_error(1.0, [gradients[0] * 1.01, gradients[1]], 1.0, gradients, 1e-4))
    assert "gradient 1 [3]" in str(step_error(1.0, [gradients[0], gradients[1] + 1], 1.0, gradients, 1e-4))
    with pytest.raises(ValueError, match="argument"):
        step_error(1.0, gradients[:1], 1.0, gradients, 1e-4)
