"""How often two items are in the same past session, from the tables, without the sessions that were forgotten since."""

from __future__ import annotations

import numpy as np

from mtaw_fast.kernels.native import _native
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.memory.tables import MemoryTables


def neighbors(tables: MemoryTables, item: int, delta: MemoryDelta | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the stored neighbors of an item and the cosine with each: (int32[n], float32[n]), in the tables' order.

    The cosine is sessions with both (`ses`) / sqrt((total of the item + 1) (total of the neighbor + 1)). An item that
    the tables do not know has no neighbors. delta: of these tables; it knows which sessions were forgotten.
    """
    return _native.co_clicked_neighbors(tables.arrays(), None if delta is None else delta.native, item)


def cosine(tables: MemoryTables, item: int, other: int, delta: MemoryDelta | None = None) -> float:
    """Return the cosine of one pair; if the pair is not stored, by the latest sessions of both. 0 without a session."""
    return _native.co_clicked_cosine(tables.arrays(), None if delta is None else delta.native, item, other)


def closest(
    tables: MemoryTables, own: np.ndarray, items: np.ndarray, delta: MemoryDelta | None = None
) -> list[list[int]]:
    """Return for each of `items` int32[k] the items of `own` int32[m] that were clicked together with it.

    At most three, by their cosine, then in the order of `own`.
    """
    return _native.co_clicked_closest(tables.arrays(), None if delta is None else delta.native, own, items)
