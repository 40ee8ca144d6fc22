"""How often two items are in the same past session, from the tables, without the sessions that were forgotten since."""

from __future__ import annotations

import math

import numpy as np

from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_tables import PAIR_KINDS
from mtaw_fast.memory.tables import MemoryTables

_SES = PAIR_KINDS.index("ses")


def neighbors(tables: MemoryTables, item: int, delta: MemoryDelta | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the stored neighbors of an item and the cosine with each: (int32[n], float32[n]), in the tables' order.

    The cosine is sessions with both (`ses`) / sqrt((total of the item + 1) (total of the neighbor + 1)). An item that
    the tables do not know has no neighbors. delta: of these tables; it knows which sessions were forgotten.
    """
    if item >= tables.n_items:
        return np.empty(0, np.int32), np.empty(0, np.float32)
    if delta is None:
        row = slice(tables.row_offsets[item], tables.row_offsets[item + 1])
        others, values = tables.neighbors[row], tables.values[row]
    else:
        others, values = delta.base_row(item)
    counts = (values[:, _SES].astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    roots = np.sqrt((_total(tables, item, delta) + 1) * (_totals(tables, others, delta).astype(np.float64) + 1))
    return others, (counts / roots).astype(np.float32)


def cosine(tables: MemoryTables, item: int, other: int, delta: MemoryDelta | None = None) -> float:
    """Return the cosine of one pair; if the pair is not stored, by the latest sessions of both. 0 without a session."""
    others, cosines = neighbors(tables, item, delta)
    place = np.flatnonzero(others == other)
    if len(place) and cosines[place[0]] > 0:
        return float(cosines[place[0]])
    if max(item, other) >= tables.n_items:
        return 0.0
    both = np.intersect1d(_latest(tables, item), _latest(tables, other), assume_unique=True)
    count = len(both) if delta is None else int((~delta.is_dropped(both)).sum())
    return count / math.sqrt((_total(tables, item, delta) + 1) * (_total(tables, other, delta) + 1))


def _totals(tables: MemoryTables, items: np.ndarray, delta: MemoryDelta | None) -> np.ndarray:
    """Return float32[..]: the totals of `ses`."""
    return tables.totals[items, _SES] if delta is None else delta.base_ses(items)


def _total(tables: MemoryTables, item: int, delta: MemoryDelta | None) -> float:
    return float(_totals(tables, np.array([item], np.int32), delta)[0])


def _latest(tables: MemoryTables, item: int) -> np.ndarray:
    """Return the latest sessions with the item: int32[..]."""
    return tables.postings[tables.post_offsets[item] : tables.post_offsets[item + 1]]
