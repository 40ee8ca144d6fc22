"""Popularity and co-occurrence with a half-life: how fast they forget, and their order of items."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mtaw_fast.evaluation.decayed import DecayedCounts

HALF_LIFE = 1000.0


@pytest.mark.parametrize("pause", [3, 150, 201, 5000])
def test_what_is_old_weighs_less_however_long_the_pause(pause: int) -> None:
    """Also when the origin of the weights moves, and when counts have underflowed."""
    counts = DecayedCounts(HALF_LIFE)
    for _ in range(5):
        counts.click(1, [0], 0)
    counts.click(2, [0], round(pause * HALF_LIFE))
    counts.click(3, [], round((pause + 1) * HALF_LIFE))
    ids, scores = counts.co_occurring([0], 4, set())
    assert ids.tolist()[:1] == [2], "a pair of 2^3 half-lives ago weighs less than one, five times or not"
    popular, weights = counts.popular(2, set())
    assert popular.tolist() == [3, 2]
    assert weights[0] == pytest.approx(2 * weights[1])
    if pause == 3:
        assert ids.tolist() == [2, 1, 3]
        assert scores[0] == pytest.approx(scores[1] * 8 / 5)


def test_nothing_is_forgotten_without_a_half_life() -> None:
    counts = DecayedCounts(math.inf)
    for time in (0, 10**15):
        counts.click(1, [0], time)
    counts.click(2, [0], 10**15)
    assert counts.popular(3, set())[0].tolist() == [1, 2]
    assert counts.co_occurring([0], 2, set())[1].tolist() == [2.0, 1.0]


def test_co_occurring_items_come_before_popular_ones_without_excluded_items() -> None:
    counts = DecayedCounts(math.inf)
    for _ in range(9):
        counts.click(2000, [], 0)  # beyond the initial capacity
    counts.click(5, [4], 0)
    ids, scores = counts.co_occurring([4], 3, set())
    assert ids.tolist() == [5, 2000]
    assert scores[0] > 0 > scores[1]
    assert counts.co_occurring([4], 3, {5})[0].tolist() == [2000]
    assert counts.popular(3, {2000})[0].tolist() == [5]
    assert counts.co_occurring([5], 3, set())[0].tolist() == [4, 2000, 5], "backwards counts half, but counts"
    assert np.isfinite(scores).all()
