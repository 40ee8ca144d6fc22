"""The clicks that a compaction collects from the log, as arrays.

Axes: E clicks, S sessions.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from mtaw_fast.data.sessions import Sessions, offsets_of


class CollectedClicks:
    """An `EventSink` that stores clicks in the log's order: 16 bytes each, 2 a context column, and 1 for a type.

    n_columns: context columns of the model. typed: whether it keeps the types of clicks. dropped: indices, in the
    model's tables, of sessions that were forgotten.
    """

    def __init__(self, n_columns: int, typed: bool) -> None:
        self.dropped: set[int] = set()
        self._forgotten: set[int] = set()
        self._handles, self._items, self._times = array("i"), array("i"), array("q")
        self._n_columns, self._context = n_columns, array("H")
        self._typed, self._types = typed, array("B")

    def click(
        self,
        handles: np.ndarray,
        items: np.ndarray,
        times: np.ndarray,
        context: np.ndarray | None = None,
        types: np.ndarray | None = None,
    ) -> None:
        self._handles.frombytes(handles.astype(np.int32).tobytes())
        self._items.frombytes(items.tobytes())
        self._times.frombytes(times.tobytes())
        if context is not None:
            self._context.frombytes(context.tobytes())
        if types is not None:
            self._types.frombytes(types.tobytes())

    def forget(self, handle: int) -> None:
        self._forgotten.add(handle)

    def forget_in_tables(self, base_session: int) -> None:
        self.dropped.add(base_session)

    def add_prior(self, item: int, neighbor: int, sessions: int, time: int | None = None) -> None:
        """Do nothing: the event processor stores priors."""

    def recompute_vectors(self, internal_ids: Sequence[int]) -> None:
        """Do nothing, as `refresh_vectors`."""

    def refresh_vectors(self) -> None:
        """Do nothing: `merge` computes the vectors from the new tables."""

    def sessions(self) -> tuple[np.ndarray, Sessions]:
        """Return the handles int32[S] of sessions that were not forgotten, ascending, and their clicks with times,
        types and context."""
        handles, items, times, context, types = self._arrays()
        order = np.argsort(handles, kind="stable")
        if self._forgotten:
            order = order[~np.isin(handles[order], self._forgotten_handles())]
        session_handles, lengths = np.unique(handles[order], return_counts=True)
        codes = None if context is None else context[order]
        kinds = None if types is None else types[order]
        return session_handles, Sessions(items[order], offsets_of(lengths), times[order], kinds, codes)

    def of(
        self, handles: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Return handle, item, time, context and type of each click of some sessions, in the log's order.

        A forgotten session has no clicks.
        """
        all_handles, items, times, context, types = self._arrays()
        chosen = np.isin(all_handles, np.setdiff1d(handles, self._forgotten_handles()))
        codes = None if context is None else context[chosen]
        return all_handles[chosen], items[chosen], times[chosen], codes, None if types is None else types[chosen]

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
        context = None
        if self._n_columns:
            context = np.frombuffer(self._context, dtype=np.uint16).reshape(-1, self._n_columns)
        return (
            np.frombuffer(self._handles, dtype=np.int32),
            np.frombuffer(self._items, dtype=np.int32),
            np.frombuffer(self._times, dtype=np.int64),
            context,
            np.frombuffer(self._types, dtype=np.uint8) if self._typed else None,
        )

    def _forgotten_handles(self) -> np.ndarray:
        return np.fromiter(self._forgotten, dtype=np.int32, count=len(self._forgotten))
