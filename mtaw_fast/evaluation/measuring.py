"""What one ranker does with every sample: its ranks, what its lists are like, and how often it shows each item.

Axes: S samples, N items, K listed items.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mtaw_fast.data.sessions import Samples
from mtaw_fast.evaluation.item_facts import ItemFacts
from mtaw_fast.evaluation.list_metrics import (
    RestOfSessions,
    coverage,
    diversity_by_attributes,
    diversity_by_vectors,
    gini,
    ndcg_gains,
    novelty,
)
from mtaw_fast.evaluation.metrics import KS, METRICS, gains_of

TOP = max(KS)
NDCG = tuple(f"NDCG@{k}" for k in KS)
RECALL = tuple(f"recall@{k}" for k in KS)
NOVELTY, DIVERSITY = f"novelty@{TOP}", f"diversity@{TOP}"
COVERAGE, GINI = f"coverage@{TOP}", f"gini@{TOP}"
COLUMNS = (*METRICS, *NDCG, *RECALL, NOVELTY, DIVERSITY)  # a number a sample, whose mean is the metric
BOUNDS = np.array([(0.0, 100.0) if name not in (NOVELTY, DIVERSITY) else (np.nan, np.nan) for name in COLUMNS]).T
OF_LISTS = (NOVELTY, DIVERSITY, COVERAGE, GINI)
MORE = (*NDCG, *RECALL, *OF_LISTS)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The lists of a ranker for S samples.

    ranks: int32[S], pessimistic, 0 for a miss. recall: float64[S, len(KS)] in percent. novelty, diversity: float64[S].
    exposures: int64[N], how often each item was among the first `TOP`. lists: int32[S, TOP] if they were kept, else of
    no row.
    """

    ranks: np.ndarray
    recall: np.ndarray
    novelty: np.ndarray
    diversity: np.ndarray
    exposures: np.ndarray
    lists: np.ndarray = field(default_factory=lambda: np.empty((0, TOP), dtype=np.int32))

    def columns(self) -> np.ndarray:
        """Return the metrics of each sample: float64[S, len(COLUMNS)]."""
        return np.column_stack(
            [gains_of(self.ranks), *(ndcg_gains(self.ranks, k) for k in KS), self.recall, self.novelty, self.diversity]
        )

    def of_catalog(self) -> dict[str, float]:
        """Return the metrics that have no value for a single sample."""
        return {COVERAGE: coverage(self.exposures), GINI: gini(self.exposures)}


class ListObserver:
    """Measures a ranker's lists while it ranks, chunk by chunk."""

    def __init__(self, samples: Samples, facts: ItemFacts, keep: bool = False) -> None:
        count = len(samples)
        self._rest, self._facts = RestOfSessions(samples), facts
        self._codes = np.stack([attribute.codes for attribute in facts.attributes]) if facts.attributes else None
        self._recall = np.zeros((count, len(KS)))
        self._novelty, self._diversity = np.zeros(count), np.zeros(count)
        self._exposures = np.zeros(facts.n_items, dtype=np.int64)
        self._lists = np.full((count if keep else 0, TOP), -1, dtype=np.int32)

    def add(self, begin: int, ids: np.ndarray) -> None:
        """Take the lists int[B, K] of the samples from `begin` on; the first `TOP` of each count."""
        ids = ids[:, :TOP]
        rows = slice(begin, begin + len(ids))
        self._recall[rows] = self._rest.recall(ids, begin, KS)
        self._novelty[rows] = novelty(ids, self._facts.information)
        if self._codes is not None:
            self._diversity[rows] = diversity_by_attributes(ids, self._codes)
        elif self._facts.vectors is not None:
            self._diversity[rows] = diversity_by_vectors(ids, self._facts.vectors)
        self._exposures += np.bincount(ids[ids >= 0], minlength=len(self._exposures))
        if len(self._lists):
            self._lists[rows, : ids.shape[1]] = ids

    def measured(self, ranks: np.ndarray) -> Measured:
        """Return all that was measured. ranks: int32[S], of the targets."""
        return Measured(ranks, self._recall, self._novelty, self._diversity, self._exposures, self._lists)
