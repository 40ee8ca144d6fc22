"""The one rule of what a bot is, for `prepare`, `update` and `replay`; a service applies its part on bursts live.

A bot is a session with more clicks than `longest`, or with more than `burst_clicks` of them within `burst_ms`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BURST_CLICKS, BURST_MS = 30, 10_000
LONGEST = 500


@dataclass(frozen=True, slots=True)
class BotRule:
    """What a bot is.

    longest: clicks that a session may have; None: any number. burst_clicks, burst_ms: more clicks than this within so
    many milliseconds are a bot's.
    """

    longest: int | None = LONGEST
    burst_clicks: int = BURST_CLICKS
    burst_ms: int = BURST_MS

    def too_long(self, lengths: np.ndarray) -> np.ndarray:
        """Return bool[B]: sessions with too many clicks. lengths: int64[B]."""
        return np.zeros(len(lengths), dtype=bool) if self.longest is None else lengths > self.longest

    def too_fast(self, times: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return bool[B]: sessions with a burst. times: int64[T] in ms, ascending in a session; offsets: int64[B + 1].

        Times that are all whole multiples of `burst_ms` are too coarse to show one.
        """
        has_burst = np.zeros(len(offsets) - 1, dtype=bool)
        owners = np.repeat(np.arange(len(has_burst)), np.diff(offsets))
        later, earlier = np.arange(self.burst_clicks, len(times)), np.arange(max(len(times) - self.burst_clicks, 0))
        burst = (owners[later] == owners[earlier]) & (times[later] - times[earlier] < self.burst_ms)
        has_burst[owners[later[burst]]] = True
        fine = np.zeros(len(has_burst), dtype=bool)
        fine[owners[times % self.burst_ms != 0]] = True
        return has_burst & fine

    def bots(self, sessions: np.ndarray, times: np.ndarray | None, count: int) -> np.ndarray:
        """Return bool[B]: the bots among sessions whose clicks are mixed.

        sessions: int[T], the session of each click. times: int64[T], in ms; without them only the number of clicks
        tells a bot. count: B.
        """
        lengths = np.bincount(sessions, minlength=count)
        is_bot = self.too_long(lengths)
        if times is not None:
            order = np.lexsort((times, sessions))
            is_bot |= self.too_fast(times[order], np.concatenate([[0], np.cumsum(lengths)]))
        return is_bot
