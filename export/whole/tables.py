"""The session memory's tables in the graph, in narrow types, and ragged arrays: rows of different lengths."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from mtaw_fast.export.whole.nodes import BOOL, INT32, INT64, Graph, Value
from mtaw_fast.memory import MemoryTables

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_SES = 3


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of some rows, row after row: int64[M] each.

    row: which of the rows. index: the position in the table.
    """

    row: Value
    index: Value


class Rows:
    """The offsets of a table's rows: int[R + 1], as int32 if they fit."""

    def __init__(self, name: str, offsets: np.ndarray) -> None:
        self.name = name
        self.offsets = offsets.astype(np.int32) if offsets[-1] < 2**31 else offsets.astype(np.int64)

    def begins_and_lengths(self, g: Graph, rows: Value, max_length: int | None = None) -> tuple[Value, Value]:
        """Return where rows int[n] begin, and their lengths, at most `max_length`: int64[n] each."""
        offsets = g.table(self.name, self.offsets)
        begins = offsets.gather(rows).cast(INT64)
        lengths = offsets.gather(rows + 1).cast(INT64) - begins
        return begins, lengths if max_length is None else lengths.minimum(max_length)


class Memory:
    """The tables of a catalog of N items, of P pairs.

    `read` returns an array of the graph: `pair_values` bfloat16[P, 6], `pair_neighbors` and `pair_latest` int32[P],
    `pair_totals` float32[N, 6], `item_counts` int32[N, 5], `item_roots` float32[N] (1 / sqrt(total of `ses` + 1)).
    """

    def __init__(self, tables: MemoryTables) -> None:
        self.n_items, self.n_sessions = tables.n_items, tables.n_sessions
        assert tables.settings.recency is not None
        self.recency = tables.settings.recency
        self.rows = Rows("pair_offsets", tables.row_offsets)
        self._arrays = {
            "pair_values": tables.values.view(BFLOAT16),
            "pair_neighbors": tables.neighbors,
            "pair_latest": tables.latest,
            "pair_totals": tables.totals,
            "item_counts": tables.counts,
            "item_roots": (1 / np.sqrt(tables.totals[:, _SES].astype(np.float64) + 1)).astype(np.float32),
        }

    def read(self, g: Graph, name: str) -> Value:
        """Return a table as a value of a graph."""
        return g.table(name, self._arrays[name])


def entries(g: Graph, begins: Value, lengths: Value) -> Entries:
    """Return the entries of rows with begins int64[n] and lengths int64[n], n >= 1."""
    longest = g.concat(lengths, g.constant(np.array([0]))).reduce("Max", 0, keep=True)
    inside = g.arange(longest) < lengths.unsqueeze(1)
    pairs = g.op("NonZero", inside)
    row, offset = (pairs.gather(g.constant(np.array(axis))) for axis in (0, 1))
    return Entries(row, begins.gather(row) + offset)


def first_of_each(g: Graph, ids: Value, n_ids: int) -> tuple[Value, Value]:
    """Return the indices int64[U] of the first occurrences in ids int32[M], ascending, and every entry's slot int64[M].

    Ids are in 0 .. n_ids - 1; a slot is an index into the U distinct ids.
    """
    order = g.arange(ids.length(), INT32)
    unset = g.full(g.constant(np.array([n_ids])), 2**31 - 1, INT32)
    first = unset.scatter(ids, order, "min")
    firsts = g.nonzero(first.gather(ids).equal(order))
    distinct = ids.gather(firsts)
    slots = g.full(g.constant(np.array([n_ids])), 0, INT32).scatter(distinct, g.arange(distinct.length(), INT32))
    return firsts, slots.gather(ids).cast(INT64)


def sorted_unique(g: Graph, ids: Value, n_ids: int) -> tuple[Value, Value]:
    """Return the distinct ids int32[U] of ids int32[M], ascending, and every entry's slot int64[M]."""
    shape = g.constant(np.array([n_ids]))
    distinct = g.nonzero(g.full(shape, 0, BOOL).scatter(ids, g.full(ids.length(), 1, BOOL)))
    slots = g.full(shape, 0, INT32).scatter(distinct, g.arange(distinct.length(), INT32))
    return distinct.cast(INT32), slots.gather(ids).cast(INT64)


def segment_reduce(g: Graph, rows: Value, slots: Value, terms: Value, width: int, kind: str = "add") -> Value:
    """Return [U, width]: the terms [M, width] of each slot reduced to one row.

    rows: int64[1], the number of slots U. slots: int64[M], the slot of each term. kind: 'add' or 'max', from 0 on.
    """
    start = g.full(g.concat(rows, g.constant(np.array([width]))), 0, terms.dtype)
    wide = g.op("Expand", slots.unsqueeze(1), g.op("Shape", terms))
    return start.scatter(wide, terms, kind)
