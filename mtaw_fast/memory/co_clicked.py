"""How often two items are in the same past session, from the tables."""

from __future__ import annotations

import math

import numpy as np

from mtaw_fast.kernels.native.memory_tables import PAIR_KINDS
from mtaw_fast.memory.tables import MemoryTables

_SES = PAIR_KINDS.index("ses")


def neighbors(tables: MemoryTables, item: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the stored neighbors of an item and the cosine with each: (int32[n], float32[n]), in the tables' order.

    The cosine is sessions with both (`ses`) / sqrt((total of the item + 1) (total of the neighbor + 1)). An item that
    the tables do not know has no neighbors.
    """
    if item >= tables.n_items:
        return np.empty(0, np.int32), np.empty(0, np.float32)
    row = slice(tables.row_offsets[item], tables.row_offsets[item + 1])
    others = tables.neighbors[row]
    counts = (tables.values[row, _SES].astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    totals = tables.totals[:, _SES]
    roots = np.sqrt((float(totals[item]) + 1) * (totals[others].astype(np.float64) + 1))
    return others, (counts / roots).astype(np.float32)


def cosine(tables: MemoryTables, item: int, other: int) -> float:
    """Return the cosine of one pair; if the pair is not stored, by the latest sessions of both. 0 without a session."""
    others, cosines = neighbors(tables, item)
    place = np.flatnonzero(others == other)
    if len(place) and cosines[place[0]] > 0:
        return float(cosines[place[0]])
    if max(item, other) >= tables.n_items:
        return 0.0
    both = len(np.intersect1d(_latest(tables, item), _latest(tables, other), assume_unique=True))
    return both / math.sqrt((float(tables.totals[item, _SES]) + 1) * (float(tables.totals[other, _SES]) + 1))


def _latest(tables: MemoryTables, item: int) -> np.ndarray:
    """Return the latest sessions with the item: int32[..]."""
    return tables.postings[tables.post_offsets[item] : tables.post_offsets[item + 1]]
