"""The tables of trends: exponentially time-decayed sums of items and pairs, built and checked without the GIL.

    arrays = build_trends(items, offsets, times, n_items, half_lives=HALF_LIVES, window=10, max_neighbors=256)

Axes: N items of the tables, P kept pairs, L = 7 half-lives (ascending; pairs have the last five), T clicks.
`kernels/native/trends/tables.hpp` has the formulas. Times are int64 ms since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mtaw_fast.kernels.native import _native
from mtaw_fast.kernels.native.memory_tables import NO_SESSION

__all__ = ["CONTEXT_ARRAYS", "HALF_LIVES", "ITEM_LANES", "PAIR_LANES", "TRENDS", "build_trends", "check_trends"]

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
HALF_LIVES = (_MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 4 * _HOUR, 24 * _HOUR, 168 * _HOUR)
ITEM_LANES = 7
PAIR_LANES = 5

# Name, dtype and shape of every array. The columns of `values` and `totals`: fwd by half-life, then bwd; of `counts`
# and `sums`: all clicks by half-life, then those that are not their session's first; of `times`: first and last click.
TRENDS: dict[str, tuple[type, tuple[str | int, ...]]] = {
    "row_offsets": (np.int64, ("N + 1",)),
    "neighbors": (np.int32, ("P",)),
    "values": (np.uint16, ("P", 2 * PAIR_LANES)),  # bfloat16
    "totals": (np.float32, ("N", 2 * PAIR_LANES)),
    "counts": (np.float32, ("N", 2 * ITEM_LANES)),
    "times": (np.int64, ("N", 2)),
    "sums": (np.float64, (2 * ITEM_LANES,)),
    "clock": (np.int64, (ITEM_LANES + 1,)),
}

# Of a log with context: C columns (at most 8), V values over all of them, Q sums of an item within a value. A code is
# 1 .. context_sizes[c] (at most 1001), or 0 without a value; values are numbered column after column.
CONTEXT_ARRAYS: dict[str, tuple[type, tuple[str | int, ...]]] = {
    "context_sizes": (np.int64, ("C",)),
    "context_offsets": (np.int64, ("N + 1",)),
    "context_values": (np.uint16, ("Q",)),
    "context_sums": (np.float32, ("Q",)),
    "context_totals": (np.float64, ("V",)),
}


def build_trends(
    items: np.ndarray,
    offsets: np.ndarray,
    times: np.ndarray,
    n_items: int,
    *,
    half_lives: Sequence[int] = HALF_LIVES,
    window: int = 10,
    max_neighbors: int = 256,
    once_from: int | None = None,
    threads: int = 1,
    context: np.ndarray | None = None,
    context_sizes: Sequence[int] = (),
    newest: int = 0,
    first: int = 0,
    last: int | None = None,
) -> dict[str, np.ndarray]:
    """Build the arrays of TRENDS from packed sessions and the times of their clicks.

    A session's clicks are taken in the order of their times (ties as given), and sums are made in the order of time, so
    that nothing depends on when a click arrived; the same bits for every number of threads. Releases the GIL.

    items: int32[T]. offsets: int64[S + 1], from 0 to T. times: int64[T], ms since 1970, in 0..2^52. half_lives: 7 of
    them, in ms, rising, at most 2^42. window: clicks apart, at most, of a pair. max_neighbors: of an item, the
    strongest; 0 keeps all. once_from: the index of the first session that counts a pair once; None for no such session.
    context: uint16[T, C], codes of the clicks' visits: adds CONTEXT_ARRAYS; context_sizes: the largest code of each
    column, at most 1,001. newest: the clock is of this time, or of the newest click if that is later. first, last:
    build the rows of items [first, last) alone: N is last - first in every array.

    Raises ValueError on a wrong type or shape, offsets that descend, or a setting out of range; IndexError on an item
    or a time out of range.
    """
    return _native.trends_build(
        items, offsets, times, n_items, list(half_lives), window, max_neighbors, threads,
        NO_SESSION if once_from is None else once_from, newest, context, list(context_sizes),
        first, n_items if last is None else last,
    )  # fmt: skip


def check_trends(
    arrays: Mapping[str, np.ndarray], *, half_lives: Sequence[int], window: int, max_neighbors: int
) -> None:
    """Raise ValueError, naming array and index, unless the arrays are safe to read.

    arrays: those of TRENDS, and of CONTEXT_ARRAYS if there are any; each is read once, without the GIL. The settings
    are those of `build_trends`.
    """
    _native.trends_check(dict(arrays), list(half_lives), window, max_neighbors)
