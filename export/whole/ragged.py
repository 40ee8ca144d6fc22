"""Rows of different lengths, end to end: how tables of neighbors, postings and sessions lie in the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtaw_fast.export.whole.nodes import BOOL, INT, LONG, Graph, Value


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of some rows, row after row. row, place: int64[M], which of the rows, and where in it; at: int64[M],
    where in the table."""

    row: Value
    place: Value
    at: Value


class Rows:
    """The offsets of a table's rows: int[R + 1], held as int32 where they fit."""

    def __init__(self, name: str, offsets: np.ndarray) -> None:
        self.name = name
        self.offsets = offsets.astype(np.int32) if offsets[-1] < 2**31 else offsets.astype(np.int64)

    def begins_and_lengths(self, g: Graph, rows: Value, most: int | None = None) -> tuple[Value, Value]:
        """Where rows int[n] begin, and their lengths, cut at `most`: int64[n] each."""
        offsets = g.table(self.name, self.offsets)
        begins = offsets.at(rows).to(LONG)
        lengths = offsets.at(rows + 1).to(LONG) - begins
        return begins, lengths if most is None else lengths.least(most)


def entries(g: Graph, begins: Value, lengths: Value) -> Entries:
    """The entries of rows that begin at int64[n] and have lengths int64[n], n >= 1."""
    longest = g.joined(lengths, g.constant(np.array([0]))).reduced("Max", 0, keep=True)
    inside = g.counted(longest) < lengths.column(1)
    pairs = g.op("NonZero", inside)
    row, place = (pairs.at(g.constant(np.array(axis))) for axis in (0, 1))
    return Entries(row, place, begins.at(row) + place)


def first_of_each(g: Graph, ids: Value, n_ids: int) -> tuple[Value, Value]:
    """Of ids int32[M] in 0 .. n_ids - 1: where each stands first, ascending, int64[U]; and for every entry which of
    those U it is, int64[M]."""
    order = g.counted(ids.size(), INT)
    nobody = g.full(g.constant(np.array([n_ids])), 2**31 - 1, INT)
    first = nobody.scattered(ids, order, "min")
    firsts = g.places(first.at(ids).same(order))
    kept = ids.at(firsts)
    slots = g.full(g.constant(np.array([n_ids])), 0, INT).scattered(kept, g.counted(kept.size(), INT))
    return firsts, slots.at(ids).to(LONG)


def ascending(g: Graph, ids: Value, n_ids: int) -> tuple[Value, Value]:
    """The distinct ones of ids int32[M], ascending: int32[U]; and for every entry which of those U it is, int64[M]."""
    room = g.constant(np.array([n_ids]))
    kept = g.places(g.full(room, 0, BOOL).scattered(ids, g.full(ids.size(), 1, BOOL)))
    slots = g.full(room, 0, INT).scattered(kept, g.counted(kept.size(), INT))
    return kept.to(INT), slots.at(ids).to(LONG)


def summed(g: Graph, rows: Value, slots: Value, terms: Value, width: int, kind: str = "add") -> Value:
    """float32[U, width]: terms [M, width] added up by slots int64[M]; rows: int64[1], U."""
    start = g.full(g.joined(rows, g.constant(np.array([width]))), 0, terms.dtype)
    wide = g.op("Expand", slots.column(1), g.op("Shape", terms))
    return start.scattered(wide, terms, kind)
