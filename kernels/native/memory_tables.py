"""The tables of the session memory: built from packed sessions, updated, checked.

Axes: N items, S sessions (oldest first), T clicks in them, P kept pairs. `kernels/native/memory/tables.hpp` has
the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mtaw_fast.kernels.native import _native

__all__ = [
    "COUNTS",
    "NO_SESSION",
    "PAIR_KINDS",
    "TABLES",
    "TableSettings",
    "build_tables",
    "check_tables",
    "update_tables",
]

NO_SESSION = 2**63 - 1  # as `once_from`: no session counts a pair once


class TableSettings(NamedTuple):
    """How pairs are counted, and how many are kept.

    window, span: clicks. recency: sessions. max_neighbors, max_postings: of an item, 0 for all. once_from: the index of
    the first session that counts a pair once, None for no such session.
    """

    window: int
    span: int
    recency: float
    max_neighbors: int
    max_postings: int
    once_from: int | None = None


PAIR_KINDS = ("next", "fwd", "bwd", "ses", "aa", "rec")  # the columns of `values` and `totals`
COUNTS = ("clicks", "sessions", "repeated_later", "repeated_at_once", "newest")  # the columns of `counts`

# Name, dtype and shape of every array.
TABLES: dict[str, tuple[type, tuple[str | int, ...]]] = {
    "row_offsets": (np.int64, ("N + 1",)),
    "neighbors": (np.int32, ("P",)),
    "latest": (np.int32, ("P",)),
    "values": (np.uint16, ("P", len(PAIR_KINDS))),  # bfloat16
    "totals": (np.float32, ("N", len(PAIR_KINDS))),
    "counts": (np.int32, ("N", len(COUNTS))),
    "post_offsets": (np.int64, ("N + 1",)),
    "postings": (np.int32, ("postings",)),
    "session_offsets": (np.int64, ("S + 1",)),
    "session_items": (np.int32, ("T",)),
}


def build_tables(
    items: np.ndarray,
    offsets: np.ndarray,
    n_items: int,
    settings: TableSettings,
    *,
    threads: int = 1,
    first: int = 0,
    last: int | None = None,
) -> dict[str, np.ndarray]:
    """Build the arrays of TABLES from packed sessions, oldest first.

    items: int32[T]; offsets: int64[S + 1], from 0 to T; both C-contiguous, and both are in the result, not copied.
    first, last: the rows of items first .. last - 1 are made; those of the others are empty, and their totals and
    counts not written. Such a row needs only the sessions with its item: any other may be empty, so long as it keeps
    its number.

    The same bits for every number of threads. In addition to the result it takes 9 bytes a click, 4 a session, 41 an
    item and, for every thread, 4 bytes an item and up to 152 for every neighbor of the item with the most.

    Raises ValueError on a wrong type or shape, offsets that descend, more than 2^31 - 1 clicks or sessions, or a
    setting out of range; IndexError on an item outside 0..N-1. Releases the GIL.
    """
    return _native.memory_build(items, offsets, n_items, settings, threads, first, n_items if last is None else last)


def update_tables(
    tables: Mapping[str, np.ndarray],
    items: np.ndarray,
    offsets: np.ndarray,
    settings: TableSettings,
    *,
    expire: int,
    threads: int = 1,
) -> dict[str, np.ndarray]:
    """Return the tables, bit for bit, of the sessions of `tables` without the `expire` oldest, followed by new ones.

    tables: arrays that `build_tables` made with these settings (any that `check_tables` accepts are safe, but their
    rows are copied as they are). items: int32[T'], offsets: int64[S' + 1]: the new sessions. settings.once_from: in
    the result. Only rows of items in added or expired sessions are built.

    Raises as `build_tables` does, and ValueError if there are fewer than `expire` sessions. Releases the GIL.
    """
    return _native.memory_update(dict(tables), items, offsets, expire, settings, threads)


def check_tables(tables: Mapping[str, np.ndarray], max_neighbors: int, max_postings: int) -> None:
    """Raise ValueError, naming array and index, unless the tables are safe to read.

    All arrays of TABLES are there with their types and shapes; offsets run from 0 to the ends of their arrays; items
    are in 0..N-1, sessions in 0..S-1; rows and postings are no longer than the settings allow,
    postings ascend; counts fit each other; values and totals are finite and not negative. Reads all arrays once and
    releases the GIL.
    """
    _native.memory_check(dict(tables), max_neighbors, max_postings)
