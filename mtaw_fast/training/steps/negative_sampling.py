"""Which items take part in a step of the sampled softmax.

Axes: T clicks, N items, D items of a batch, R rows of the item embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mtaw_fast.data.sessions import Sessions


@dataclass(frozen=True, slots=True, eq=False)
class CatalogSample:
    """The rows of the catalog that take part in a step.

    rows: int64[R], distinct items: those that are always there, ascending, then those drawn. always: how many are
    always there. correction: added to a drawn item's logit: -log of the probability that it is drawn.
    """

    rows: np.ndarray
    always: int
    correction: float

    @classmethod
    def drawn(cls, always: np.ndarray, n_items: int, count: int, rng: np.random.Generator) -> CatalogSample:
        """Return the items int64[D] (distinct, ascending) and `count` of the others, or all if there are fewer."""
        others = n_items - len(always)
        count = min(count, others)
        numbers = np.arange(others) if count == others else rng.choice(others, count, replace=False, shuffle=False)
        # The k-th item that is not always there: k plus the number of those before it.
        drawn = numbers + np.searchsorted(always - np.arange(len(always)), numbers, side="right")
        return cls(np.concatenate([always, drawn]), len(always), math.log(others / count) if count else 0.0)


class Occurrences:
    """The clicks of sessions by item. Takes 4 bytes a click and 8 an item in addition to the sessions.

    sessions: of internal ids below `n_items`.
    """

    def __init__(self, sessions: Sessions, n_items: int) -> None:
        self._items, self._session_ends = sessions.items, sessions.offsets
        dtype = np.int32 if sessions.n_clicks < 2**31 else np.int64
        self._clicks = np.argsort(sessions.items, kind="stable").astype(dtype)
        self._ends = np.zeros(n_items + 1, dtype=np.int64)
        np.cumsum(np.bincount(sessions.items, minlength=n_items), out=self._ends[1:])

    def neighbors(self, items: np.ndarray, times: int, rng: np.random.Generator) -> np.ndarray:
        """Return what was clicked right before and right after randomly drawn clicks on some items.

        items: int64[D], distinct. times: clicks drawn on each item, uniformly with replacement; none on an item that
        was never clicked.
        Returns int64[..], distinct items, ascending.
        """
        begin, end = self._ends[items], self._ends[items + 1]
        begin, count = begin[begin < end], (end - begin)[begin < end]
        drawn = (rng.random((len(begin), times)) * count[:, None]).astype(np.int64) + begin[:, None]
        clicks = self._clicks[drawn.ravel()].astype(np.int64)
        session = np.searchsorted(self._session_ends, clicks, side="right")
        after = clicks[clicks + 1 < self._session_ends[session]] + 1
        before = clicks[clicks > self._session_ends[session - 1]] - 1
        return np.unique(self._items[np.concatenate([before, after])]).astype(np.int64)
