"""The merged top K of parts equals that of one index over the whole, with any cuts, ties and filters."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.filters import Filter
from mtaw_fast.ranking.retrieval import NativeIndex, NumpyIndex
from mtaw_fast.ranking.retrieval.merging import Found, merged, ranges
from tests.support.ranking.catalogs import brute_force, same


def found_in_parts(
    catalog: np.ndarray, edges: list[int], queries: np.ndarray, k: int, mask: np.ndarray | None
) -> list[tuple[int, Found]]:
    """Return the results of an index over each part, with the id of the part's first item; kinds of index alternate."""
    parts = []
    for place, (begin, end) in enumerate(itertools.pairwise(edges)):
        rows = catalog[begin:end]
        allowed = None if mask is None else Filter(mask[begin:end])
        index = NumpyIndex(rows) if place % 2 and end > begin else NativeIndex(np.ascontiguousarray(rows))
        parts.append((begin, index.search(queries, k, allowed, scale=16.0)))
    return parts


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, list[int], np.ndarray, int, np.ndarray | None]:
    """Draw a catalog of few distinct rows (many ties), cuts with some empty parts, queries, k and a filter."""
    n, d = draw(st.integers(1, 70)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    distinct = rng.normal(size=(draw(st.integers(1, 12)), d)).astype(np.float32)
    catalog = distinct[rng.integers(0, len(distinct), n)]
    cuts = draw(st.lists(st.integers(0, n), max_size=6))
    queries = rng.normal(size=(draw(st.integers(1, 3)), d)).astype(np.float32)
    share = draw(st.sampled_from([None, 0.0, 0.05, 0.5, 1.0]))
    return catalog, cuts, queries, draw(st.integers(1, 90)), None if share is None else rng.random(n) < share


@settings(max_examples=400, deadline=None)
@given(problems(), st.none() | st.integers(0, 6))
def test_merged_parts_are_the_whole(
    problem: tuple[np.ndarray, list[int], np.ndarray, int, np.ndarray | None], lost: int | None
) -> None:
    """If a part is lost, they are the whole without its items."""
    catalog, cuts, queries, k, mask = problem
    edges = [0, *sorted(cuts), len(catalog)]
    parts = found_in_parts(catalog, edges, queries, k, mask)
    if lost is not None:
        lost %= len(parts)
        mask = np.ones(len(catalog), dtype=bool) if mask is None else mask.copy()
        mask[edges[lost] : edges[lost + 1]] = False
        del parts[lost]
    assert same(merged(parts, len(queries), k), brute_force(queries, catalog, k, mask, 16.0))


def test_nothing_found_is_padding() -> None:
    ids, scores = merged([], 2, 3)
    assert (ids.tolist(), scores.tolist()) == ([[-1] * 3] * 2, [[-np.inf] * 3] * 2)


def test_an_item_of_the_least_score_comes_before_padding() -> None:
    first = np.array([[-1, -1]], np.int32), np.array([[-np.inf, -np.inf]], np.float32)
    second = np.array([[0, -1]], np.int32), np.array([[-np.inf, -np.inf]], np.float32)
    assert merged([(0, first), (7, second)], 1, 3)[0].tolist() == [[7, -1, -1]]


def test_parts_may_bring_lists_of_different_lengths() -> None:
    first = np.array([[3]], np.int32), np.array([[1.0]], np.float32)
    second = np.array([[1, 0]], np.int32), np.array([[2.0, 1.0]], np.float32)
    ids, scores = merged([(10, second), (0, first)], 1, 3)  # in any order: a tie goes to the lower id
    assert (ids.tolist(), scores.tolist()) == ([[11, 3, 10]], [[2.0, 1.0, 1.0]])


@pytest.mark.parametrize("sizes", [[3, 0, 2], [0, 0], [5]])
def test_ranges_follow_each_other(sizes: list[int]) -> None:
    parts = ranges(sizes)
    assert [len(part) for part in parts] == sizes
    assert [item for part in parts for item in part] == list(range(sum(sizes)))
