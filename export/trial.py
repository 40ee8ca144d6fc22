"""Try one kind of index: build it, find its parameters, measure its recall."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from mtaw_fast.export.faiss_build import build
from mtaw_fast.export.recall_search import HeldOut, K, choose, options
from mtaw_fast.ranking.retrieval import Index
from mtaw_fast.ranking.retrieval.ann_index import AnnIndex
from mtaw_fast.ranking.retrieval.ann_plan import Recall, SearchPlan, SearchPlans, index_entry

LONG = 100  # recall at this k is reported, without a target
_KINDS = ("session vectors", "item vectors")


@dataclass(frozen=True, slots=True)
class Fitted:
    """A FAISS index that reaches the target, and the manifest's entry for it."""

    index: Any
    entry: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Missed:
    """The kinds of query for which no plan of an index reaches the target, and the best recall of each."""

    kind: str
    best: Mapping[str, float]

    def __str__(self) -> str:
        """Return for example "ivfpq misses it on item vectors (the best: 0.9712)"."""
        return f"{self.kind} misses it on " + " and ".join(
            f"{queries} (the best: {recall:.4f})" for queries, recall in self.best.items()
        )


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The data for every kind of index. tune, check: halves of the vectors of sessions and of items, in order."""

    catalog: np.ndarray
    exact: Index
    tune: tuple[HeldOut, HeldOut]
    check: tuple[HeldOut, HeldOut]
    source: str
    target: float
    seed: int
    say: Callable[[str], None]

    def fit(self, kind: str) -> Fitted | Missed:
        """Build an index and find its plans, one for sessions and one for items; Missed if either has none."""
        began = time.perf_counter()
        built = build(kind, self.catalog, self.seed, self.say)

        def index_of(plan: SearchPlan) -> AnnIndex:
            return AnnIndex(self.catalog, built.index, plan, self.exact)

        self.say(f"looking for parameters of {built.factory} with recall@{K} of at least {self.target:g}")
        tried = options(kind, built.index, self.catalog, self.tune, self.target)
        by_sessions, by_items = (
            choose(candidates, self.target, index_of, check)
            for candidates, check in zip(tried, self.check, strict=True)
        )
        if by_sessions is None or by_items is None:
            missed = Missed(
                kind,
                {
                    queries: max(option.recall for option in candidates)
                    for queries, candidates, chosen in zip(_KINDS, tried, (by_sessions, by_items), strict=True)
                    if chosen is None
                },
            )
            self.say(f"{built.factory} does not reach it on {' and '.join(missed.best)}")
            return missed
        sessions = self.check[0]
        long = sessions.recalls(index_of(by_sessions.plan).search(sessions.vectors, LONG)[1], LONG).mean()
        of_sessions, of_items, at_100 = (
            round(float(value), 5) for value in (by_sessions.recall, by_items.recall, long)
        )
        facts = {
            "factory": built.factory,
            "faiss": faiss.__version__,
            "seed": self.seed,
            "seconds": round(time.perf_counter() - began, 1),
            "median_us": round(by_sessions.median_us, 1),
            "items_median_us": round(by_items.median_us, 1),
        }
        recall = Recall(self.target, of_sessions, of_items, at_100, len(sessions.vectors), self.source)
        return Fitted(built.index, index_entry(SearchPlans(by_sessions.plan, by_items.plan), recall, facts))
