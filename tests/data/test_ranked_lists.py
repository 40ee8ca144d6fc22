"""Ranked lists: the top k of each row, and lists merged."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.ranked_lists import merge, top_k
from tests.support.evaluation.lists import best_first

finite = st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([0.0, -0.0, 1.0, -np.inf, np.inf])


@given(st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 9)), finite, max_size=40), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_top_k_sorts_each_row(candidates: dict[tuple[int, int], float], k: int) -> None:
    entries = sorted((row, item, score) for (row, item), score in candidates.items())
    columns = [np.array(column) for column in zip(*entries, strict=True)] or [np.empty(0, np.int64)] * 3
    ids, scores = top_k(columns[0].astype(np.int64), columns[1].astype(np.int64), columns[2].astype(np.float64), 5, k)
    for row in range(5):
        row_scores = {item: score for r, item, score in entries if r == row}
        expected = best_first(row_scores, k)
        assert ids[row].tolist() == expected + [-1] * (k - len(expected))
        assert scores[row].tolist() == [row_scores[item] for item in expected] + [-np.inf] * (k - len(expected))


def test_merge_adds_in_the_order_of_the_entries() -> None:
    rows = np.array([1, 0, 1, 1, 0])
    rows, items, scores = merge(rows, np.array([2, 5, 2, 1, 5]), np.array([1e17, 1.0, 1.0, 4.0, 2.0]), 6)
    assert rows.tolist() == [0, 1, 1]
    assert items.tolist() == [5, 1, 2]
    assert scores.tolist() == [3.0, 4.0, 1e17 + 1.0]
