"""The session memory's tables in the graph, in narrow types."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from mtaw_fast.export.whole.nodes import FLOAT32, Graph, Value
from mtaw_fast.export.whole.ragged import Rows
from mtaw_fast.memory import MemoryTables

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_SES = 3


class Memory:
    """The tables of a catalog of N items; every method returns an array of the graph."""

    def __init__(self, tables: MemoryTables) -> None:
        self.n_items, self.n_sessions = tables.n_items, tables.n_sessions
        assert tables.settings.recency is not None
        self.recency = tables.settings.recency
        self.rows = Rows("pair_offsets", tables.row_offsets)
        self.posts = Rows("posting_offsets", tables.post_offsets)
        self._tables = tables
        items, offsets = without_repeats(tables.session_items, tables.session_offsets)
        self.sessions = Rows("session_offsets", offsets)
        self._session_items = items
        self._roots = (1 / np.sqrt(tables.totals[:, _SES].astype(np.float64) + 1)).astype(np.float32)

    def values(self, g: Graph) -> Value:
        """Return bfloat16[P, 6]."""
        return g.table("pair_values", self._tables.values.view(BFLOAT16))

    def neighbors(self, g: Graph) -> Value:
        """Return int32[P]."""
        return g.table("pair_neighbors", self._tables.neighbors)

    def latest(self, g: Graph) -> Value:
        """Return int32[P]."""
        return g.table("pair_latest", self._tables.latest)

    def postings(self, g: Graph) -> Value:
        """Return int32[..]."""
        return g.table("postings", self._tables.postings)

    def session_items(self, g: Graph) -> Value:
        """Return int32[..]: of consecutive clicks on one item only the first."""
        return g.table("session_items", self._session_items)

    def totals(self, g: Graph) -> Value:
        """Return float32[N, 6]."""
        return g.table("pair_totals", self._tables.totals)

    def counts(self, g: Graph) -> Value:
        """Return int32[N, 5]."""
        return g.table("item_counts", self._tables.counts)

    def root(self, g: Graph, items: Value) -> Value:
        """Return float32[..]: 1 / sqrt(total of `ses` + 1) of items."""
        return g.table("item_roots", self._roots, FLOAT32).gather(items)


def without_repeats(items: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sessions in which consecutive clicks on one item are one click."""
    is_kept = np.ones(len(items), bool)
    is_kept[1:] = items[1:] != items[:-1]
    begins = offsets[:-1]
    is_kept[begins[begins < offsets[1:]]] = True
    return items[is_kept], np.concatenate([[0], np.cumsum(is_kept)])[offsets]
