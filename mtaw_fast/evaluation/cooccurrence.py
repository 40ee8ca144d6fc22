"""Windowed co-occurrence with a repeat bonus: the strongest simple baseline, in plain numpy.

With ages counted back from the last click of the prefix (its own age is 0), item c scores

    sum over clicks j of decay^age(j) * near(j, c)
    + bonus * (1 + sum over the prefix's clicks on c of own_decay^age), if it has any

    near(j, c) = sum over training pairs (j before c, at most `window` clicks apart) of 1/distance
               + backward * the same over pairs with c before j,
                 divided by (its total over all c + 1) and by (clicks of c + 1)^popularity.

Axes: B sessions, N items, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mtaw_fast.data.ranked_lists import merge, top_k
from mtaw_fast.data.sessions import Sessions, offsets_of, ranges
from mtaw_fast.errors import UsageError


@dataclass(frozen=True, slots=True)
class CoOccurrenceSettings:
    """The parameters of the formula above.

    window: largest distance in clicks. backward: weight of pairs in the other order. popularity: exponent that damps
    popular items. decay: of a click per click back. bonus, own_decay: of own items.
    Raises UsageError if one is out of range.
    """

    window: int = 10
    backward: float = 0.5
    popularity: float = 0.0
    decay: float = 0.8
    bonus: float = 1.0
    own_decay: float = 0.9

    def __post_init__(self) -> None:
        valid = {
            "window": self.window >= 1,
            "backward": self.backward >= 0,
            "popularity": self.popularity >= 0,
            "decay": 0 < self.decay <= 1,
            "bonus": self.bonus >= 0,
            "own_decay": 0 < self.own_decay <= 1,
        }
        for name, is_valid in valid.items():
            if not is_valid:
                raise UsageError(f"co-occurrence: {name}={getattr(self, name)} is out of range")


@dataclass(frozen=True, slots=True, eq=False)
class CoOccurrence:
    """Ranks by the formula above; all other items follow by popularity.

    offsets int64[N + 1], neighbors int32[P], weights float64[P]: near(j, .) as sparse rows, by id.
    popular int32[N]: all items by falling click count.
    Filled-up items have negative scores (-1, -2, ..), so they come after the others.
    """

    settings: CoOccurrenceSettings
    offsets: np.ndarray
    neighbors: np.ndarray
    weights: np.ndarray
    popular: np.ndarray

    @classmethod
    def fit(cls, sessions: Sessions, n_items: int, settings: CoOccurrenceSettings | None = None) -> CoOccurrence:
        """Count the pairs of `sessions`."""
        settings = settings or CoOccurrenceSettings()
        first, second, forward = _pairs(sessions, n_items, settings.window)
        clicks = np.bincount(sessions.items, minlength=n_items)
        rows, neighbors, weights = merge(
            np.concatenate([first, second]),
            np.concatenate([second, first]),
            np.concatenate([forward, settings.backward * forward]),
            n_items,
        )
        totals = np.bincount(rows, weights, minlength=n_items)
        weights = weights / (totals[rows] + 1) / (clicks[neighbors] + 1.0) ** settings.popularity
        offsets = offsets_of(np.bincount(rows, minlength=n_items))
        popular = np.argsort(-clicks, kind="stable").astype(np.int32)
        return cls(settings, offsets, neighbors, weights, popular)

    def with_query(self, decay: float, bonus: float, own_decay: float) -> CoOccurrence:
        """Return the same counts with other query settings; the other settings need a new `fit`."""
        return replace(self, settings=replace(self.settings, decay=decay, bonus=bonus, own_decay=own_decay))

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `evaluation.Evaluated`."""
        n_items, count = len(self.popular), len(sessions)
        row = np.repeat(np.arange(count), sessions.lengths)
        age = sessions.offsets[1:][row] - 1 - np.arange(sessions.n_clicks)
        lengths = np.diff(self.offsets)[sessions.items]
        pairs = ranges(self.offsets[sessions.items], lengths)
        pair_scores = np.repeat(self.settings.decay**age, lengths) * self.weights[pairs]
        own_row, own_item, own_scores = merge(row, sessions.items, self.settings.own_decay**age, n_items)
        rows, items, scores = merge(
            np.concatenate([np.repeat(row, lengths), own_row]),
            np.concatenate([self.neighbors[pairs], own_item]),
            np.concatenate([pair_scores, self.settings.bonus * (1 + own_scores)]),
            n_items,
        )
        ids, best = top_k(rows, items, scores, count, k)
        _fill_up(ids, best, self.popular)
        return ids, best


def _pairs(sessions: Sessions, n_items: int, window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ordered pairs of different items in one session: (first, second, sum of 1/distance)."""
    session = np.repeat(np.arange(len(sessions)), sessions.lengths)
    items = sessions.items
    firsts, seconds, weights = [], [], []
    for distance in range(1, min(window, sessions.n_clicks - 1) + 1):
        before, after = items[:-distance], items[distance:]
        kept = (session[:-distance] == session[distance:]) & (before != after)
        firsts.append(before[kept].astype(np.int64))
        seconds.append(after[kept].astype(np.int64))
        weights.append(np.full(len(firsts[-1]), 1 / distance))
    if not firsts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    return merge(np.concatenate(firsts), np.concatenate(seconds), np.concatenate(weights), n_items)


def _fill_up(ids: np.ndarray, scores: np.ndarray, popular: np.ndarray) -> None:
    """Replace padding, in place, by the most popular items that a row does not have yet."""
    short_rows = np.flatnonzero(ids[:, -1] < 0) if ids.shape[1] else np.empty(0, np.int64)
    # A row has at most k items, so k of the first 2k popular ones are new to it.
    candidates = popular[: 2 * ids.shape[1]]
    for row in short_rows:
        begin = int(np.count_nonzero(ids[row] >= 0))
        new_items = candidates[~np.isin(candidates, ids[row, :begin])][: ids.shape[1] - begin]
        ids[row, begin : begin + len(new_items)] = new_items
        scores[row, begin : begin + len(new_items)] = -1 - np.arange(len(new_items), dtype=np.float32)
