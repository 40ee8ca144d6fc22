"""Baselines without training.

Each is an `evaluation.Evaluated` made by `fit(sessions, n_items)`. Popularity and co-occurrence rank the whole catalog;
OwnRecent and OwnFrequent list only the session's own items, as for their published figures.

Axes: B sessions, N items.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.data.ranked_lists import merge, padded_to, top_k
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.evaluation.cooccurrence import CoOccurrence
from mtaw_fast.evaluation.metrics import gains_of, means_of
from mtaw_fast.evaluation.protocol import Evaluated, ranks_of


@dataclass(frozen=True, slots=True, eq=False)
class Popularity:
    """All items by falling click count, for every session; scores are the counts.

    ids int32[N], counts float32[N], both in that order; the lower id comes first in a tie.
    """

    ids: np.ndarray
    counts: np.ndarray

    @classmethod
    def fit(cls, sessions: Sessions, n_items: int) -> Popularity:
        """Count the clicks of `sessions`."""
        counts = np.bincount(sessions.items, minlength=n_items)
        ids = np.argsort(-counts, kind="stable").astype(np.int32)
        return cls(ids, counts[ids].astype(np.float32))

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `evaluation.Evaluated`."""
        ids, counts = padded_to(k, self.ids, self.counts)
        return np.tile(ids, (len(sessions), 1)), np.tile(counts, (len(sessions), 1))


@dataclass(frozen=True, slots=True)
class OwnRecent:
    """The session's own items, most recent first; the score is minus the clicks since its last one."""

    n_items: int

    @classmethod
    def fit(cls, sessions: Sessions, n_items: int) -> OwnRecent:  # noqa: ARG003 (as the other baselines)
        """Learn nothing."""
        return cls(n_items)

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `evaluation.Evaluated`."""
        rows, items, ages, _ = _own_items(sessions, self.n_items)
        return top_k(rows, items, -ages, len(sessions), k)


@dataclass(frozen=True, slots=True)
class OwnFrequent:
    """The session's own items, most clicked first, the more recent first among equals.

    The score is clicks + 1 / (2 + clicks since its last one), whose second term is below 1. Rounding to float32 merges
    only ages of hundreds of clicks.
    """

    n_items: int

    @classmethod
    def fit(cls, sessions: Sessions, n_items: int) -> OwnFrequent:  # noqa: ARG003 (as the other baselines)
        """Learn nothing."""
        return cls(n_items)

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `evaluation.Evaluated`."""
        rows, items, ages, counts = _own_items(sessions, self.n_items)
        return top_k(rows, items, counts + 1 / (2 + ages), len(sessions), k)


def _own_items(sessions: Sessions, n_items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct items of every session: rows, items, ages of their last clicks, numbers of clicks."""
    rows = np.repeat(np.arange(len(sessions)), sessions.lengths)
    ages = sessions.offsets[1:][rows] - 1 - np.arange(sessions.n_clicks)
    distinct_rows, items, counts = merge(rows, sessions.items, np.ones(sessions.n_clicks), n_items)
    latest = np.full(len(distinct_rows), np.iinfo(np.int64).max)
    indices = np.searchsorted(distinct_rows * n_items + items, rows * n_items + sessions.items)
    np.minimum.at(latest, indices, ages)
    return distinct_rows, items, latest, counts


# Fields of CoOccurrenceSettings. Those of the second group change the counts, so each choice needs a fit.
_QUERY_GRID = {"decay": (0.5, 0.7, 0.9), "bonus": (0.2, 0.4, 1.0), "own_decay": (0.8, 0.9, 1.0)}
_COUNT_GRID = {"window": (5, 10), "backward": (0.5, 1.0), "popularity": (0.0, 0.25, 0.5)}


def tune_co_occurrence(train: Sessions, validation: Samples, n_items: int) -> CoOccurrence:
    """Fit co-occurrence on `train`, with the settings of the best P@20 + MRR@20 on `validation`.

    Two steps: first the 27 query settings (decay, bonus, own_decay) with the default counts, then, with the best of
    them, the 12 count settings (window, backward, popularity). The first of equals wins. For the test, fit with the
    returned `settings` on train and validation sessions.
    """
    best, best_value = CoOccurrence.fit(train, n_items), -1.0
    for query in _combinations(_QUERY_GRID):
        best, best_value = _better(best, best_value, best.with_query(**query), validation)
    chosen = best.settings
    for count in _combinations(_COUNT_GRID):
        settings = dataclasses.replace(chosen, **count)
        # The default counts have had their turn, under every query setting.
        if settings != chosen:
            best, best_value = _better(best, best_value, CoOccurrence.fit(train, n_items, settings), validation)
    return best


def _combinations(grid: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _better(
    best: CoOccurrence, best_value: float, candidate: CoOccurrence, validation: Samples
) -> tuple[CoOccurrence, float]:
    metrics = means_of(gains_of(ranks_of(candidate, validation)))
    value = metrics["P@20"] + metrics["MRR@20"]
    return (candidate, value) if value > best_value else (best, best_value)


def fit_baselines(
    sessions: Sessions, train: Sessions, validation: Sessions, min_prefix: int, n_items: int
) -> dict[str, Evaluated]:
    """Return every baseline by name, fitted on `sessions`.

    Co-occurrence is tuned on the `validation` sessions, fitted on `train` alone. To measure on the test, `sessions` are
    train and validation together; to measure on validation they are `train`.
    """
    samples = Samples.from_sessions(validation, min_prefix)
    settings = tune_co_occurrence(train, samples, n_items).settings
    return {
        "popularity": Popularity.fit(sessions, n_items),
        "own items, recent first": OwnRecent.fit(sessions, n_items),
        "own items, frequent first": OwnFrequent.fit(sessions, n_items),
        "co-occurrence + repeats": CoOccurrence.fit(sessions, n_items, settings),
    }
