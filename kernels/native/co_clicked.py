"""How often two items are in the same past session; `mtaw_fast.memory.co_clicked` has the meaning."""

from __future__ import annotations

import numpy as np

from mtaw_fast.kernels.native import _native
from mtaw_fast.kernels.native.memory_delta import MemoryDelta

__all__ = ["closest", "cosine", "neighbors"]


def neighbors(
    tables: dict[str, np.ndarray], item: int, delta: MemoryDelta | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the neighbors of an item and the cosine with each: (int32[n], float32[n]). tables: as `TABLES` lists."""
    return _native.co_clicked_neighbors(tables, None if delta is None else delta.native, item)


def cosine(tables: dict[str, np.ndarray], item: int, other: int, delta: MemoryDelta | None = None) -> float:
    """Return the cosine of one pair."""
    return _native.co_clicked_cosine(tables, None if delta is None else delta.native, item, other)


def closest(
    tables: dict[str, np.ndarray], own: np.ndarray, items: np.ndarray, delta: MemoryDelta | None = None
) -> list[list[int]]:
    """Return for each of `items` int32[k] those of `own` int32[m] that are closest to it, at most three."""
    return _native.co_clicked_closest(tables, None if delta is None else delta.native, own, items)
