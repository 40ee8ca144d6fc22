"""One kind of index on trial: built, its parameters found, its recall measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from mtaw_fast.export.faiss_build import build
from mtaw_fast.export.recall_search import HeldOut, K, choose, options
from mtaw_fast.retrieval import Index
from mtaw_fast.retrieval.ladder import LadderIndex
from mtaw_fast.retrieval.plan import Recall, SearchPlan, index_entry

LONG = 100  # recall at this k is stated besides, not asked for


@dataclass(frozen=True, slots=True)
class Fitted:
    """A FAISS index that reaches the target, and the manifest's entry for it."""

    index: Any
    entry: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What every kind of index is tried on. tune, check: halves of the vectors of sessions and of items."""

    catalog: np.ndarray
    exact: Index
    tune: tuple[HeldOut, ...]
    check: tuple[HeldOut, ...]
    source: str
    target: float
    seed: int
    say: Callable[[str], None]

    def fit(self, kind: str) -> Fitted | float:
        """Build an index and find its plan; where no plan reaches the target, the best recall of any."""
        began = time.perf_counter()
        built = build(kind, self.catalog, self.seed, self.say)

        def ladder(plan: SearchPlan) -> LadderIndex:
            return LadderIndex(self.catalog, built.index, plan, self.exact)

        self.say(f"looking for parameters of {built.factory} with recall@{K} of at least {self.target:g}")
        tried = options(kind, built.index, self.catalog, self.tune)
        chosen = choose(tried, self.target, ladder, self.check)
        if chosen is None:
            self.say(f"{built.factory} does not reach it")
            return max(min(option.recalls) for option in tried)
        sessions = self.check[0]
        long = sessions.recalls(ladder(chosen.plan).search(sessions.vectors, LONG)[1], LONG).mean()
        of_sessions, of_items, at_100 = (round(float(value), 5) for value in (*chosen.recalls, long))
        about = {
            "factory": built.factory,
            "faiss": faiss.__version__,
            "seed": self.seed,
            "seconds": round(time.perf_counter() - began, 1),
            "median_us": round(chosen.median_us, 1),
        }
        recall = Recall(self.target, of_sessions, of_items, at_100, len(sessions.vectors), self.source)
        return Fitted(built.index, index_entry(chosen.plan, recall, about))
