"""The order in which a slice of sessions is gone through: in chunks that are asked before they are learned.

Axes: T clicks of the slice, H chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtaw_fast.data.sessions import Sessions


@dataclass(frozen=True, slots=True, eq=False)
class ReplayOrder:
    """The clicks of sessions as they came.

    Attributes
    ----------
    clicks : int64[T]
        Places in `Sessions.items`, in order: a session's clicks keep theirs.
    bounds : int64[H + 1]
        Chunk h is clicks[bounds[h]:bounds[h + 1]].
    moments : int64[T] or None
        Milliseconds, by place in `Sessions.items`: when a click came, never before its session's earlier ones.
    """

    clicks: np.ndarray
    bounds: np.ndarray
    moments: np.ndarray | None

    @classmethod
    def of(cls, sessions: Sessions, most_clicks: int, most_ms: int) -> ReplayOrder:
        """By the clicks' times, where there are any; else session by session.

        Parameters
        ----------
        sessions : Sessions
            In order of their ends.
        most_clicks : int
            Of a chunk. Without times a chunk goes on to the end of its last session.
        most_ms : int
            Milliseconds that a chunk lasts, where there are times.
        """
        if sessions.times is None:
            clicks = np.arange(sessions.n_clicks, dtype=np.int64)
            return cls(clicks, _by_session(sessions.offsets, most_clicks), None)
        moments = _rising(sessions.times, sessions.offsets)
        order = np.argsort(moments, kind="stable").astype(np.int64)
        return cls(order, _by_time(moments[order], most_clicks, most_ms), moments)


def evenly(count: int, most: int) -> np.ndarray:
    """bool[count]: `most` of them (all, where there are no more), spread evenly."""
    place = np.arange(count + 1, dtype=np.int64) * min(count, most) // max(count, 1)
    return place[1:] > place[:-1]


def _rising(times: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """int64[T]: each session's times, none below one before it."""
    starts = np.zeros(len(times), dtype=bool)
    starts[offsets[:-1][offsets[:-1] < len(times)]] = True
    falls = np.flatnonzero((times[1:] < times[:-1]) & ~starts[1:]) + 1
    if len(falls) == 0:
        return times
    risen = times.copy()
    for session in np.unique(np.searchsorted(offsets, falls, side="right") - 1).tolist():
        clicks = slice(offsets[session], offsets[session + 1])
        risen[clicks] = np.maximum.accumulate(times[clicks])
    return risen


def _by_session(offsets: np.ndarray, most_clicks: int) -> np.ndarray:
    bounds = [0]
    while bounds[-1] < offsets[-1]:
        bounds.append(int(offsets[np.searchsorted(offsets, min(bounds[-1] + most_clicks, int(offsets[-1])))]))
    return np.array(bounds, dtype=np.int64)


def _by_time(moments: np.ndarray, most_clicks: int, most_ms: int) -> np.ndarray:
    bounds = [0]
    while (begin := bounds[-1]) < len(moments):
        late = int(np.searchsorted(moments, moments[begin] + most_ms))
        bounds.append(min(late, begin + most_clicks, len(moments)))
    return np.array(bounds, dtype=np.int64)
