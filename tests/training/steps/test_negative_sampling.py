"""Neighbors of clicks on an item: never of another session, and as often as they occur."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.training.steps.negative_sampling import Occurrences

N = 8
LISTS = st.lists(st.lists(st.integers(0, N - 2), min_size=1, max_size=6), min_size=1, max_size=8)


def neighbors(lists: list[list[int]], item: int) -> set[int]:
    """Items right before or right after the item in some session."""
    pairs = [pair for session in lists for pair in itertools.pairwise(session)]
    return {b for a, b in pairs if a == item} | {a for a, b in pairs if b == item}


@given(LISTS, st.sets(st.integers(0, N - 1), max_size=N))
def test_many_draws_find_every_neighbor_and_nothing_else(lists: list[list[int]], asked: set[int]) -> None:
    drawn = Occurrences(Sessions.from_lists(lists), N).neighbors(
        np.array(sorted(asked), dtype=np.int64), 400, np.random.default_rng(0)
    )
    assert drawn.tolist() == sorted(set().union(*(neighbors(lists, item) for item in asked)))


def test_a_neighbor_is_drawn_as_often_as_it_occurs() -> None:
    occurrences = Occurrences(Sessions.from_lists([[0, 1]] * 3 + [[0, 2]]), N)
    rng, times = np.random.default_rng(1), 4000
    hits = sum(occurrences.neighbors(np.array([0]), 1, rng).tolist() == [1] for _ in range(times))
    assert abs(hits / times - 3 / 4) < 5 * math.sqrt(3 / 16 / times)
