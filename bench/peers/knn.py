"""Item-KNN as GRU4Rec's authors measure it: items that share sessions with the last click, by damped cosine.

    score(i | last click j) = n(i, j) / ((n(i) + shrink)^alpha (n(j) + shrink)^(1 - alpha))

where n(i, j) counts pairs of their clicks in one session and n(i) clicks; of each j the `neighbors` best i are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtaw_fast.data.ranked_lists import merge, top_k
from mtaw_fast.data.sessions import Sessions, ranges

_PAIRS = 1 << 24  # at a time


@dataclass(frozen=True, slots=True, eq=False)
class ItemKnn:
    """An `evaluation.Evaluated`. ids int32[N, neighbors], scores float32[N, neighbors], best first, -1 for none."""

    ids: np.ndarray
    scores: np.ndarray

    @classmethod
    def fit(
        cls, sessions: Sessions, n_items: int, neighbors: int = 100, shrink: float = 20, alpha: float = 0.5
    ) -> ItemKnn:
        """Count the pairs of `sessions`."""
        rows, items, counts = _pairs(sessions, n_items)
        support = np.bincount(sessions.items, minlength=n_items) + float(shrink)
        scores = counts / (support[items] ** alpha * support[rows] ** (1 - alpha))
        return cls(*top_k(rows, items, scores, n_items, neighbors))

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `evaluation.Evaluated`."""
        last = sessions.items[sessions.offsets[1:] - 1]
        short = max(k - self.ids.shape[1], 0)
        ids = np.pad(self.ids[last, :k], ((0, 0), (0, short)), constant_values=-1)
        return ids, np.pad(self.scores[last, :k], ((0, 0), (0, short)), constant_values=-np.inf)


def _pairs(sessions: Sessions, n_items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (item, other item, count of their clicks in one session), ordered by item, then other item."""
    lengths = sessions.lengths
    session_lengths = lengths[np.repeat(np.arange(len(sessions)), lengths)]  # clicks in the session of each click
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray] = (np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0))
    begins = np.repeat(sessions.offsets[:-1], lengths)
    cuts = np.searchsorted(np.cumsum(session_lengths), np.arange(_PAIRS, int(session_lengths.sum()) + _PAIRS, _PAIRS))
    begin = 0
    for cut in np.unique(np.append(cuts, len(session_lengths))):
        part = slice(begin, int(cut))
        begin = int(cut)
        first = np.repeat(sessions.items[part], session_lengths[part]).astype(np.int64)
        second = sessions.items[ranges(begins[part], session_lengths[part])]
        distinct = first != second
        rows = np.concatenate([pairs[0], first[distinct]])
        items = np.concatenate([pairs[1], second[distinct]])
        pairs = merge(rows, items, np.concatenate([pairs[2], np.ones(int(distinct.sum()))]), n_items)
    return pairs
