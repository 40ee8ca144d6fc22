"""The clicks that a compaction collects from the log, as arrays.

Axes: E clicks, S sessions.
"""

from __future__ import annotations

from array import array

import numpy as np

from mtaw_fast.data.sessions import Sessions, offsets_of


class CollectedClicks:
    """An `EventSink` that stores clicks in the log's order: 16 bytes each.

    Attributes
    ----------
    dropped : set of int
        Places in the model's tables of sessions that were forgotten.
    """

    def __init__(self) -> None:
        self.dropped: set[int] = set()
        self._forgotten: set[int] = set()
        self._handles, self._items, self._times = array("i"), array("i"), array("q")

    def click(self, handles: np.ndarray, items: np.ndarray, times: np.ndarray) -> None:
        """See `EventSink.click`."""
        self._handles.frombytes(handles.astype(np.int32).tobytes())
        self._items.frombytes(items.tobytes())
        self._times.frombytes(times.tobytes())

    def forget(self, handle: int) -> None:
        """See `EventSink.forget`."""
        self._forgotten.add(handle)

    def forget_in_tables(self, place: int) -> None:
        """See `EventSink.forget_in_tables`."""
        self.dropped.add(place)

    def add_prior(self, item: int, neighbor: int, sessions: int, time: int | None = None) -> None:
        """Do nothing: the event processor stores priors."""

    def refresh_vectors(self) -> None:
        """Do nothing: `merge` computes the vectors from the new tables."""

    def sessions(self) -> tuple[np.ndarray, Sessions]:
        """Return the handles int32[S] of sessions that were not forgotten, ascending, and their clicks with times."""
        handles, items, times = self._arrays()
        order = np.argsort(handles, kind="stable")
        if self._forgotten:
            order = order[~np.isin(handles[order], self._gone())]
        found, lengths = np.unique(handles[order], return_counts=True)
        return found, Sessions(items[order], offsets_of(lengths), times[order])

    def of(self, handles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what was clicked in some sessions, in the log's order.

        Parameters
        ----------
        handles : int32[..]
            Those of forgotten sessions have no clicks.

        Returns
        -------
        tuple of (int32[E], int32[E], int64[E])
            The handle, the item and the time of each click.
        """
        arrays = self._arrays()
        chosen = np.isin(arrays[0], np.setdiff1d(handles, self._gone()))
        return arrays[0][chosen], arrays[1][chosen], arrays[2][chosen]

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return (
            np.frombuffer(self._handles, dtype=np.int32),
            np.frombuffer(self._items, dtype=np.int32),
            np.frombuffer(self._times, dtype=np.int64),
        )

    def _gone(self) -> np.ndarray:
        return np.fromiter(self._forgotten, dtype=np.int32, count=len(self._forgotten))
