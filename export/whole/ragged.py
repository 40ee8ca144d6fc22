"""Ragged arrays in the graph: rows of different lengths, for neighbors, postings and sessions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtaw_fast.export.whole.nodes import BOOL, INT, LONG, Graph, Value


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of some rows, row after row: int64[M] each.

    row: which of the rows. place: the position in the row. at: the position in the table.
    """

    row: Value
    place: Value
    at: Value


class Rows:
    """The offsets of a table's rows: int[R + 1], as int32 if they fit."""

    def __init__(self, name: str, offsets: np.ndarray) -> None:
        self.name = name
        self.offsets = offsets.astype(np.int32) if offsets[-1] < 2**31 else offsets.astype(np.int64)

    def begins_and_lengths(self, g: Graph, rows: Value, most: int | None = None) -> tuple[Value, Value]:
        """Return the begins and the lengths, at most `most`, of rows int[n]: int64[n] each."""
        offsets = g.table(self.name, self.offsets)
        begins = offsets.at(rows).to(LONG)
        lengths = offsets.at(rows + 1).to(LONG) - begins
        return begins, lengths if most is None else lengths.least(most)


def entries(g: Graph, begins: Value, lengths: Value) -> Entries:
    """Return the entries of rows with begins int64[n] and lengths int64[n], n >= 1."""
    longest = g.joined(lengths, g.constant(np.array([0]))).reduced("Max", 0, keep=True)
    inside = g.counted(longest) < lengths.column(1)
    pairs = g.op("NonZero", inside)
    row, place = (pairs.at(g.constant(np.array(axis))) for axis in (0, 1))
    return Entries(row, place, begins.at(row) + place)


def first_of_each(g: Graph, ids: Value, n_ids: int) -> tuple[Value, Value]:
    """Return the places int64[U] of the first occurrences in ids int32[M], ascending, and every entry's slot int64[M].

    Ids are in 0 .. n_ids - 1; a slot is an index into the U distinct ids.
    """
    order = g.counted(ids.size(), INT)
    unset = g.full(g.constant(np.array([n_ids])), 2**31 - 1, INT)
    first = unset.scattered(ids, order, "min")
    firsts = g.places(first.at(ids).same(order))
    distinct = ids.at(firsts)
    slots = g.full(g.constant(np.array([n_ids])), 0, INT).scattered(distinct, g.counted(distinct.size(), INT))
    return firsts, slots.at(ids).to(LONG)


def ascending(g: Graph, ids: Value, n_ids: int) -> tuple[Value, Value]:
    """Return the distinct ids int32[U] of ids int32[M], ascending, and every entry's slot int64[M]."""
    shape = g.constant(np.array([n_ids]))
    distinct = g.places(g.full(shape, 0, BOOL).scattered(ids, g.full(ids.size(), 1, BOOL)))
    slots = g.full(shape, 0, INT).scattered(distinct, g.counted(distinct.size(), INT))
    return distinct.to(INT), slots.at(ids).to(LONG)


def summed(g: Graph, rows: Value, slots: Value, terms: Value, width: int, kind: str = "add") -> Value:
    """Return float32[U, width]: terms [M, width] added by slots int64[M]; rows: int64[1], U."""
    start = g.full(g.joined(rows, g.constant(np.array([width]))), 0, terms.dtype)
    wide = g.op("Expand", slots.column(1), g.op("Shape", terms))
    return start.scattered(wide, terms, kind)
