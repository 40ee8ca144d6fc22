"""The table of external ids: Python objects in, internal ids out, and back, over a bundle's mapped arrays.

    IdTable.of_ints(values, sorted, order)      int64[N], int64[N], int32[N]
    IdTable.of_texts(blob, offsets, slots)      uint8[..], int64[N + 1], uint64[a power of two]
    IdTable.slots_of(blob, offsets)             the hash table that of_texts takes
    table.lookup(list of any objects)           int32[n] internal ids, -1 where unknown
    table.known(list of any objects)            int32[..] the distinct internal ids of the known ones, ascending
    table.external(int32[n])                    list of int or str
    table.extended(internal_ids, items)         the table with more ids: a dict of plain ids to internal ones, which
                                                come before the table's own, and the tuple of the ids of N, N + 1, ..;
                                                both are kept, and must not change afterwards

The arrays are those of `mtaw_fast.data.item_ids.ItemIds`. ValueError on arrays that do not fit together or a text that
occurs twice, IndexError on an internal id outside 0..N-1. The table keeps the arrays. Thread-safe; keeps the GIL,
since it works on Python's objects.
"""

from __future__ import annotations

from mtaw_fast.kernels.native import _native

__all__ = ["IdTable"]

IdTable = _native.IdTable
