"""The delta of the session memory: the sessions since its tables were made.

    delta = MemoryDelta(tables.arrays(), tables.settings.native)
    memory = SessionMemory(tables.arrays(), 1000.0, delta.n_catalog, delta=delta)
    delta.click(handles, items)             # in order; the next query of any thread sees them

Queries read tables and delta together, as if the tables had been built from the sessions of both, ordered by their last
clicks. Axes: N items of the tables, S sessions of the tables, E events.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtaw_fast.kernels.native import _native
from mtaw_fast.kernels.native.memory_tables import TableSettings

__all__ = ["MemoryDelta"]


class MemoryDelta:
    """Sessions that grow click by click, and their statistics of items and pairs. Thread-safe.

    The state and the bits of every query depend only on the order of the events, not on how they were batched into
    calls or on the instruction set. Queries run at the same time; they wait while events are applied, at most 32 at
    once.

    tables: the arrays of `mtaw_fast.memory.MemoryTables` by name, checked by it; kept by reference. settings:
    those that they were built with; the rows of the delta are cut after `max_neighbors` when they grow far beyond.
    capacity: items that may come after those of the tables, with the ids N .. N + capacity - 1. max_clicks: of a
    session; later ones are ignored, and counted in `n_ignored`.

    Raises ValueError on arrays that do not fit together or a number out of range.
    """

    def __init__(
        self,
        tables: Mapping[str, np.ndarray],
        settings: TableSettings,
        *,
        capacity: int = 65536,
        max_clicks: int = 512,
    ) -> None:
        self.once_from = settings.once_from
        self.native = _native.MemoryDelta(dict(tables), settings, capacity, max_clicks)

    def click(self, handles: np.ndarray, items: np.ndarray) -> None:
        """Add clicks, in order: handles int64[E], of which an unknown one starts a session, and items int32[E].

        Raises ValueError on a wrong type or shape, IndexError on an item outside 0..n_catalog-1; then no click is
        added.
        """
        self.native.click(handles, items)

    def resume(self, handle: int, base_session: int) -> None:
        """Continue session 0..S-1 of the tables under a handle: its clicks move into the delta, as the latest session.

        Raises ValueError on a known handle, IndexError if there is no such session, or it was forgotten or resumed.
        """
        self.native.resume(handle, base_session)

    def forget(self, handle: int) -> bool:
        """Remove a session; return whether there was one."""
        return self.native.forget(handle)

    def forget_base(self, base_session: int) -> bool:
        """Remove a session from the tables' statistics; return False if it was forgotten or resumed before.

        Raises IndexError outside 0..S-1.
        """
        return self.native.forget_base(base_session)

    def add_prior(self, item: int, neighbor: int, values: np.ndarray) -> None:
        """Add to the statistics of the ordered pair (item, neighbor): a cold-start prior, evidence without a session.

        It does not age before the item's latest session does. values: float64[6], as PAIR_KINDS has them.

        Raises ValueError on negative or infinite values, or an item as its own neighbor, IndexError on an unknown item.
        """
        self.native.add_prior(item, neighbor, values)

    def ordered(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all sessions by their last clicks: (handles int64[S'], items int32[T'], offsets int64[S' + 1])."""
        return self.native.ordered()

    def row(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the delta's own statistics of an item's pairs: (neighbors int32[n], values float64[n, 6]).

        Values as PAIR_KINDS has them, `rec` as of the item's latest session.
        """
        return self.native.row(item)

    def counts(self, item: int) -> np.ndarray:
        """Return the delta's own counts of an item, int64[5]: as COUNTS has them.

        `newest` is the session's index in `ordered`, -1 without any.
        """
        return self.native.counts(item)

    @property
    def n_catalog(self) -> int:
        """N + capacity."""
        return self.native.n_catalog

    @property
    def n_sessions(self) -> int:
        """Sessions of the delta."""
        return self.native.n_sessions

    @property
    def n_clicks(self) -> int:
        """Their clicks."""
        return self.native.n_clicks

    @property
    def n_rows(self) -> int:
        """Items with a click or a pair in the delta."""
        return self.native.n_rows

    @property
    def n_ignored(self) -> int:
        """Clicks past `max_clicks` of their session."""
        return self.native.n_ignored

    @property
    def n_bytes(self) -> int:
        """Memory of the delta in bytes, without the tables."""
        return self.native.n_bytes
