"""Where each item was clicked: what stands beside it in sessions, drawn as often as it stands there.

Axes: T clicks, N items, D items asked.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.data.sessions import Sessions


class Occurrences:
    """The clicks of sessions by item. Keeps 4 bytes a click and 8 an item beside the sessions.

    Parameters
    ----------
    sessions : Sessions
        Of internal ids below `n_items`.
    n_items : int
        N.
    """

    def __init__(self, sessions: Sessions, n_items: int) -> None:
        self._items, self._session_ends = sessions.items, sessions.offsets
        place = np.int32 if sessions.n_clicks < 2**31 else np.int64
        self._places = np.argsort(sessions.items, kind="stable").astype(place)
        self._ends = np.zeros(n_items + 1, dtype=np.int64)
        np.cumsum(np.bincount(sessions.items, minlength=n_items), out=self._ends[1:])

    def beside(self, items: np.ndarray, times: int, rng: np.random.Generator) -> np.ndarray:
        """What was clicked right before and right after some clicks on each of some items.

        Parameters
        ----------
        items : int64[D]
            Distinct.
        times : int
            Clicks drawn on each item, uniformly, with replacement; an item that was never clicked has none.
        rng : numpy.random.Generator

        Returns
        -------
        int64[..]
            Distinct items, rising.
        """
        begin, end = self._ends[items], self._ends[items + 1]
        begin, count = begin[begin < end], (end - begin)[begin < end]
        drawn = (rng.random((len(begin), times)) * count[:, None]).astype(np.int64) + begin[:, None]
        places = self._places[drawn.ravel()].astype(np.int64)
        session = np.searchsorted(self._session_ends, places, side="right")
        after = places[places + 1 < self._session_ends[session]] + 1
        before = places[places > self._session_ends[session - 1]] - 1
        return np.unique(self._items[np.concatenate([before, after])]).astype(np.int64)
