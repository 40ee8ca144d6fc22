"""What has been clicked since the session memory's tables were made, beside them.

    delta = MemoryDelta(tables.arrays(), window=10, span=40, recency=1000.0, max_neighbors=512, max_postings=500)
    memory = SessionMemory(tables.arrays(), 1000.0, delta.n_catalog, delta=delta)
    delta.click(handles, items)             # in order: the very next query of any thread knows of them

Queries read tables and delta together, as if the tables had been built from the sessions of both, ordered by their last
clicks. Axes: N items of the tables, S sessions of the tables, E events.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtaw_fast.kernels.native import _native

__all__ = ["MemoryDelta"]


class MemoryDelta:
    """Sessions that grow click by click, and what they say of pairs and items. Thread-safe.

    The state and the bits of every query depend on the order of the events alone: not on how they were portioned into
    calls, nor on the instruction set. Queries share the delta, an event excludes them (at most 32 events at a time).
    Whoever holds it frees it: its memory goes with the last reference.

    Parameters
    ----------
    tables : mapping of str to array
        The arrays of `mtaw_fast.memory.MemoryTables` by name, checked by it; kept by reference, not copied.
    window, span : int
        Clicks; as the tables were built with, like all that follow.
    recency : float
        Sessions.
    max_neighbors, max_postings : int
        Of an item. The rows of the delta are cut after `max_neighbors` when they grow far beyond.
    capacity : int, default 65536
        Room for items that the tables do not know: ids N .. N + capacity - 1.
    most_clicks : int, default 512
        Of a session; its later clicks are ignored, and counted in `n_ignored`.

    Raises
    ------
    ValueError
        On arrays that do not fit together or a number out of range.
    """

    def __init__(
        self,
        tables: Mapping[str, np.ndarray],
        *,
        window: int,
        span: int,
        recency: float,
        max_neighbors: int,
        max_postings: int,
        capacity: int = 65536,
        most_clicks: int = 512,
    ) -> None:
        self.native = _native.MemoryDelta(
            dict(tables), capacity, most_clicks, window, span, recency, max_neighbors, max_postings
        )

    def click(self, handles: np.ndarray, items: np.ndarray) -> None:
        """Take clicks in, in their order.

        Parameters
        ----------
        handles : int64[E]
            The session of each click; one that is not known starts a session.
        items : int32[E]
            Items in 0 .. n_catalog - 1.

        Raises
        ------
        ValueError
            On a wrong type or shape.
        IndexError
            On an item out of range; nothing is taken in then.
        """
        self.native.click(handles, items)

    def resume(self, handle: int, base_session: int) -> None:
        """Let a session of the tables go on: its clicks move into the delta, as its latest session.

        Parameters
        ----------
        handle : int
            By which its next clicks come.
        base_session : int
            Its place in the tables, 0 .. S - 1.

        Raises
        ------
        ValueError
            Where the handle is known already.
        IndexError
            Where there is no such session, or it was forgotten or resumed.
        """
        self.native.resume(handle, base_session)

    def forget(self, handle: int) -> bool:
        """Take a session out again. Returns whether there was one."""
        return self.native.forget(handle)

    def forget_base(self, base_session: int) -> bool:
        """Take a session out of what the tables say.

        Returns
        -------
        bool
            False where it was forgotten or resumed before.

        Raises
        ------
        IndexError
            Outside 0 .. S - 1.
        """
        return self.native.forget_base(base_session)

    def seed(self, item: int, neighbor: int, values: np.ndarray) -> None:
        """Add evidence that no session holds to what is said of the ordered pair (item, neighbor).

        It stays until the delta goes, and does not age before the item's latest session does.

        Parameters
        ----------
        item, neighbor : int
            Two items in 0 .. n_catalog - 1; the other direction is a call of its own.
        values : float64[6]
            As PAIR_KINDS has them, finite and not negative.

        Raises
        ------
        ValueError
            On values that are not so, or an item as its own neighbor.
        IndexError
            On an item out of range.
        """
        self.native.seed(item, neighbor, values)

    def ordered(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All sessions by their last clicks, the latest last.

        Returns
        -------
        handles : int64[S']
        items : int32[T']
        offsets : int64[S' + 1]
        """
        return self.native.ordered()

    def row(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """What the delta alone says of an item's pairs.

        Returns
        -------
        neighbors : int32[n]
        values : float64[n, 6]
            As PAIR_KINDS has them, `rec` as of the item's latest session.
        """
        return self.native.row(item)

    def counts(self, item: int) -> np.ndarray:
        """What the delta alone has counted of an item.

        Returns
        -------
        int64[5]
            As COUNTS has them; `newest` is the session's place in `ordered`, -1 without any.
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
        """Items that the delta has met."""
        return self.native.n_rows

    @property
    def n_pairs(self) -> int:
        """Pairs of these, in both directions."""
        return self.native.n_pairs

    @property
    def n_ignored(self) -> int:
        """Clicks past `most_clicks` of their session."""
        return self.native.n_ignored

    @property
    def n_dropped(self) -> int:
        """Sessions of the tables that were forgotten or resumed."""
        return self.native.n_dropped

    @property
    def n_bytes(self) -> int:
        """Memory of the delta, beside the tables."""
        return self.native.n_bytes
