"""How far live clicks have drifted from those of the training: by popularity, and by the features of a click.

A feature puts each click that follows another one into a group. The drift is the population stability index of the
live shares p against the trained ones q (Siddiqi, "Credit Risk Scorecards", 2006):

    PSI = sum over groups of (p - q) log(p / q)

with every share at least `_MIN_SHARE`. By custom, below 0.1 nothing has changed, and from 0.25 on much has. With N live
clicks, chance alone gives about (groups - 1) / N. In some shops every hour differs from the whole, as on a news portal:
so the level of an alarm is at least the largest drift of any hour of the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtaw_fast.data.sessions import Sessions

LENGTHS = (1, 2, 3, 5, 8, 13)  # the last length of each group of prefixes but the last
GAPS_MS = (3_000, 10_000, 30_000, 60_000, 180_000, 600_000)  # likewise, of pauses before a click
POPULARITY_GROUPS = 10  # of equal mass in the training; a further one has the items that it did not click
UNSEEN = POPULARITY_GROUPS
GROUPS = {
    "popularity": POPULARITY_GROUPS + 1, "length": len(LENGTHS) + 1, "repeat": 2, "gap": len(GAPS_MS) + 1,
}  # fmt: skip
FEWEST_CLICKS = 1_000  # of a window with a drift
THRESHOLD = 0.25
_MIN_SHARE = 0.005
_HOUR_MS = 3_600_000
_PARTS = 50
_MAX_CLICKS = 500_000  # of the training that are read, the last ones


@dataclass(frozen=True, slots=True, eq=False)
class DriftReference:
    """The clicks of a training by group.

    popularity_group: uint8[N], of each item; `UNSEEN` for items without a click. shares: float64[groups] by feature, of
    the training's clicks; without 'gap' if it had no times. usual: by feature, the largest drift of the training's own
    hours; of equal parts if it had no times.
    """

    popularity_group: np.ndarray
    shares: dict[str, np.ndarray]
    usual: dict[str, float]

    @classmethod
    def of(cls, sessions: Sessions, n_items: int) -> DriftReference | None:
        """Return the reference of a training's sessions, oldest first; None if no click follows another."""
        if len(sessions) and sessions.n_clicks > _MAX_CLICKS:
            first = int(np.searchsorted(sessions.offsets, sessions.offsets[-1] - _MAX_CLICKS))
            sessions = sessions.slice(min(first, len(sessions) - 1), len(sessions))
        starts = np.repeat(sessions.offsets[:-1], sessions.lengths) - sessions.offsets[0]
        before = np.arange(sessions.n_clicks) - starts  # clicks before each one in its session
        following = before > 0
        items = sessions.items[following]
        if not len(items):
            return None
        counts = np.bincount(items, minlength=n_items)
        order = np.argsort(-counts, kind="stable")
        mass = (np.cumsum(counts[order]) - counts[order] / 2) / counts.sum()
        group = np.empty(n_items, np.uint8)
        group[order] = np.minimum((mass * POPULARITY_GROUPS).astype(np.int64), POPULARITY_GROUPS - 1)
        group[counts == 0] = UNSEEN
        popularity = np.bincount(group[items], minlength=GROUPS["popularity"]) / len(items)
        # Good and Turing: the next click is on an item without a click as often as clicks were on items with one.
        popularity = popularity * (1 - np.mean(counts[items] == 1))
        popularity[UNSEEN] = np.mean(counts[items] == 1)
        groups = {
            "popularity": group[items].astype(np.int64),
            "length": np.searchsorted(LENGTHS, before[following]),
            "repeat": _repeats(sessions)[following].astype(np.int64),
        }
        if sessions.times is not None:
            gaps = np.diff(sessions.times, prepend=sessions.times[:1])[following]
            groups["gap"] = np.searchsorted(GAPS_MS, gaps)
            parts = sessions.times[following] // _HOUR_MS
        else:
            parts = np.arange(len(items)) // max(FEWEST_CLICKS, len(items) // _PARTS)
        shares = {
            feature: np.bincount(codes, minlength=GROUPS[feature]) / len(codes) for feature, codes in groups.items()
        }
        shares["popularity"] = popularity
        usual = {feature: _largest(codes, np.unique(parts, return_inverse=True)[1], shares[feature])
                 for feature, codes in groups.items()}  # fmt: skip
        return cls(group, shares, usual)

    def groups_of_items(self, items: np.ndarray) -> np.ndarray:
        """Return int64[n]: the popularity groups of internal ids; unknown (-1) and new items are `UNSEEN`."""
        known = (items >= 0) & (items < len(self.popularity_group))
        return np.where(known, self.popularity_group[np.where(known, items, 0)], UNSEEN).astype(np.int64)


def drift_of(counts: Sequence[int] | np.ndarray, shares: np.ndarray) -> float:
    """Return the population stability index of live counts by group against the shares of the training."""
    live = np.asarray(counts, np.float64)
    live, trained = np.maximum(live / live.sum(), _MIN_SHARE), np.maximum(shares, _MIN_SHARE)
    return float(np.sum((live - trained) * np.log(live / trained)))


def _largest(groups: np.ndarray, parts: np.ndarray, shares: np.ndarray) -> float:
    """Return the largest drift of the parts of the training that have enough clicks. parts: int64[n], from 0."""
    count = len(shares)
    table = np.bincount(parts * count + groups, minlength=(int(parts.max()) + 1) * count).reshape(-1, count)
    rows = table[table.sum(axis=1) >= FEWEST_CLICKS]
    return max((drift_of(row, shares) for row in rows), default=0.0)


def _repeats(sessions: Sessions) -> np.ndarray:
    """Return bool[T]: whether a click's item came earlier in its session."""
    rows = np.repeat(np.arange(len(sessions)), sessions.lengths)
    order = np.lexsort((np.arange(sessions.n_clicks), sessions.items, rows))
    same = (np.diff(rows[order]) == 0) & (np.diff(sessions.items[order]) == 0)
    repeats = np.zeros(sessions.n_clicks, dtype=bool)
    repeats[order[1:][same]] = True
    return repeats
