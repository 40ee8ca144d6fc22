"""Baselines that learn click by click and forget: popularity and co-occurrence with a half-life.

A click at time t weighs 2^(t / half-life), relative to an origin that moves. With ages counted back from a
session's last click (its own age is 0), item c scores, over the last 5 clicks j of the session,

    sum of 0.6^age(j) * (weight of pairs j .. c + half the weight of pairs c .. j, at most 5 clicks apart)

and all other items follow by popularity, the decayed number of clicks.
"""

from __future__ import annotations

import math

import numpy as np

WINDOW = 5
POSITION = 0.6
BACKWARD = 0.5
_FAR = 200.0  # half-lives after which the origin moves
_GONE = 2.0**-100


class DecayedCounts:
    """The counts of both baselines. Items are numbers from 0; not thread-safe.

    half_life: milliseconds; infinite to forget nothing.
    """

    def __init__(self, half_life: float) -> None:
        self._half_life = half_life
        self._origin: float | None = None
        self._clicks = np.zeros(1024)
        self._pairs: dict[int, dict[int, float]] = {}

    def click(self, item: int, before: list[int], time: int) -> None:
        """Count a click. before: the session's items before it, oldest first. time: milliseconds, not falling."""
        weight = self._weight(time)
        while item >= len(self._clicks):
            self._clicks = np.concatenate([self._clicks, np.zeros(len(self._clicks))])
        self._clicks[item] += weight
        for other in before[-WINDOW:]:
            if other != item:
                self._add(other, item, weight)
                self._add(item, other, BACKWARD * weight)

    def _add(self, item: int, neighbor: int, weight: float) -> None:
        row = self._pairs.setdefault(item, {})
        row[neighbor] = row.get(neighbor, 0.0) + weight

    def _weight(self, time: int) -> float:
        if math.isinf(self._half_life):
            return 1.0
        if self._origin is None:
            self._origin = time
        age = (time - self._origin) / self._half_life
        if age > _FAR:
            self._move(age)
            self._origin, age = time, 0.0
        return 2.0**age

    def _move(self, age: float) -> None:
        factor = 2.0**-age if age < 1000 else 0.0
        self._clicks *= factor
        for item, row in list(self._pairs.items()):
            remaining = {other: value * factor for other, value in row.items() if value * factor > _GONE}
            if remaining:
                self._pairs[item] = remaining
            else:
                del self._pairs[item]

    def popular(self, k: int, excluded: set[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int64[..], scores float64[..]) of at most k items by popularity; ties by the lower number."""
        return self._best({}, k, excluded)

    def co_occurring(self, session: list[int], k: int, excluded: set[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int64[..], scores float64[..]) of at most k items by co-occurrence, then by popularity."""
        scores: dict[int, float] = {}
        factor = 1.0
        for item in reversed(session[-WINDOW:]):
            for other, value in self._pairs.get(item, {}).items():
                scores[other] = scores.get(other, 0.0) + factor * value
            factor *= POSITION
        return self._best(scores, k, excluded)

    def _best(self, scores: dict[int, float], k: int, excluded: set[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the items of `scores` by score, then the others by popularity, with scores of -1, -2, .."""
        ranked = sorted((-score, item) for item, score in scores.items() if item not in excluded)[:k]
        ids, values = [item for _, item in ranked], [-score for score, _ in ranked]
        if len(ids) < k:
            listed = excluded.union(ids)
            clicks = self._clicks
            count = min(k + len(listed), len(clicks))
            edge = np.partition(clicks, len(clicks) - count)[len(clicks) - count]
            popular = np.flatnonzero((clicks >= edge) & (clicks > 0))
            popular = popular[np.argsort(-clicks[popular], kind="stable")]
            fill = [item for item in popular.tolist() if item not in listed][: k - len(ids)]
            ids += fill
            values += [-1.0 - position if scores else float(clicks[item]) for position, item in enumerate(fill)]
        return np.array(ids, dtype=np.int64), np.array(values)
