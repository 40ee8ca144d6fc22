"""The session memory's tables as they lie in the graph: narrow types, a row for every item of the catalog."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from mtaw_fast.export.whole.nodes import FLOAT, Graph, Value
from mtaw_fast.export.whole.ragged import Rows
from mtaw_fast.memory import MemoryTables

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_SES = 3


def padded_rows(array: np.ndarray, n_items: int, filling: Any = 0) -> np.ndarray:
    """With rows of `filling` for the items that were added after the tables were made."""
    more = n_items - len(array)
    return array if more == 0 else np.concatenate([array, np.full((more, *array.shape[1:]), filling, array.dtype)])


def padded_offsets(offsets: np.ndarray, n_items: int) -> np.ndarray:
    """With empty rows for the same items."""
    return np.concatenate([offsets, np.full(n_items + 1 - len(offsets), offsets[-1])])


class Memory:
    """The tables for a catalog of n_items; every method names an array in a graph."""

    def __init__(self, tables: MemoryTables, n_items: int) -> None:
        self.n_items, self.n_sessions = n_items, tables.n_sessions
        assert tables.settings.recency is not None
        self.recency = tables.settings.recency
        self.rows = Rows("pair_offsets", padded_offsets(tables.row_offsets, n_items))
        self.posts = Rows("posting_offsets", padded_offsets(tables.post_offsets, n_items))
        self._tables = tables
        items, offsets = without_repeats(tables.session_items, tables.session_offsets)
        self.sessions = Rows("session_offsets", offsets)
        self._session_items = items
        self._counts = padded_rows(tables.counts, n_items)
        if n_items > len(tables.counts):
            self._counts[len(tables.counts) :, -1] = -1  # in no session
        self._totals = padded_rows(tables.totals, n_items)
        self._roots = (1 / np.sqrt(self._totals[:, _SES].astype(np.float64) + 1)).astype(np.float32)

    def values(self, g: Graph) -> Value:
        """bfloat16[P, 6]."""
        return g.table("pair_values", self._tables.values.view(BFLOAT16))

    def neighbours(self, g: Graph) -> Value:
        """int32[P]."""
        return g.table("pair_neighbours", self._tables.neighbours)

    def latest(self, g: Graph) -> Value:
        """int32[P]."""
        return g.table("pair_latest", self._tables.latest)

    def postings(self, g: Graph) -> Value:
        """int32[..]."""
        return g.table("postings", self._tables.postings)

    def session_items(self, g: Graph) -> Value:
        """int32[..], of consecutive clicks on one item the first."""
        return g.table("session_items", self._session_items)

    def totals(self, g: Graph) -> Value:
        """float32[N, 6]."""
        return g.table("pair_totals", self._totals)

    def counts(self, g: Graph) -> Value:
        """int32[N, 5]."""
        return g.table("item_counts", self._counts)

    def root(self, g: Graph, items: Value) -> Value:
        """float32[..]: 1 / sqrt(total of `ses` + 1) of items."""
        return g.table("item_roots", self._roots, FLOAT).at(items)


def without_repeats(items: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sessions in which consecutive clicks on one item are one click."""
    kept = np.ones(len(items), bool)
    kept[1:] = items[1:] != items[:-1]
    begins = offsets[:-1]
    kept[begins[begins < offsets[1:]]] = True
    return items[kept], np.concatenate([[0], np.cumsum(kept)])[offsets]
