"""Find the fastest search parameters of an index that reach a recall on held-out vectors.

Recall@k of a query is the share of its k results whose exact score is at least the true k-th best score: items that
tie for the last position all count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.kernels.native import rerank_topk
from mtaw_fast.ranking.retrieval import Index
from mtaw_fast.ranking.retrieval.ann_index import AnnIndex, search_parameters
from mtaw_fast.ranking.retrieval.ann_plan import SearchPlan

K = 20
_EFFORTS = tuple(sorted({step << power for power in range(20) for step in (1, 3)}))  # 1, 2, 3, 4, 6, 8, 12, ..
_K_FACTORS = {"ivfpq": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32), "hnsw": (2,)}  # HNSW's distances are exact up to rounding
_MIN_EFFORT = {"ivfpq": 1, "hnsw": 2 * K}  # efSearch is at least the number of results
_MAX_NODES = 2048  # largest efSearch; above it is far slower than an exact search
_CAUTION = (1.0, 2.0, 3.0)
_TIMED = 40


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Queries with their exact scores.

    vectors: float32[B, d]. kth: {k: float32[B]}, the true k-th best score, k at most N.
    """

    vectors: np.ndarray
    kth: dict[int, np.ndarray]

    @classmethod
    def of(cls, vectors: np.ndarray, exact: Index, ks: Sequence[int]) -> HeldOut:
        """Find the exact scores with an exact index."""
        vectors = np.ascontiguousarray(vectors)
        scores = exact.search(vectors, max(ks))[1]
        return cls(vectors, {k: scores[:, k - 1] for k in ks})

    def recalls(self, scores: np.ndarray, k: int = K) -> np.ndarray:
        """Return float64[B]: recall@k of each query, from its results' exact scores float32[B, k] (-inf: no result)."""
        return (scores >= self.kth[k][:, None]).mean(axis=1)


@dataclass(frozen=True, slots=True)
class Option:
    """A plan with its recall@20 on the queries of the choice, and the standard error."""

    plan: SearchPlan
    recall: float
    error: float

    def reaches(self, target: float, caution: float) -> bool:
        """Return whether the recall is `caution` standard errors over the target."""
        return self.recall - caution * self.error >= target


def options(
    kind: str, approximate: Any, catalog: np.ndarray, held_out: Sequence[HeldOut], target: float
) -> list[list[Option]]:
    """Return for each of `held_out` all plans that were tried, by increasing effort.

    It stops if more effort does not improve any of them, or is over twice the effort that reaches the target for all
    with the greatest caution: a smaller k_factor could then save less than the effort costs.
    """
    max_effort = approximate.nlist if kind == "ivfpq" else min(_MAX_NODES, len(catalog))
    lists: list[list[Option]] = [[] for _ in held_out]
    recalls = [-1.0] * len(held_out)
    sure_effort = max_effort
    for effort in [value for value in _EFFORTS if _MIN_EFFORT[kind] <= value < max_effort] + [max_effort]:
        if effort > 2 * sure_effort:
            break
        plans = [SearchPlan(kind, effort, k_factor) for k_factor in _K_FACTORS[kind]]
        for tried, queries in zip(lists, held_out, strict=True):
            rows = _recalls(approximate, catalog, plans, queries)
            tried += [
                Option(plan, float(row.mean()), float(row.std() / len(row) ** 0.5))
                for plan, row in zip(plans, rows, strict=True)
            ]
        previous, recalls = recalls, [tried[-1].recall for tried in lists]
        if recalls == previous:
            break
        if all(any(option.reaches(target, _CAUTION[-1]) for option in tried) for tried in lists):
            sure_effort = min(sure_effort, effort)
    return lists


def _recalls(approximate: Any, catalog: np.ndarray, plans: Sequence[SearchPlan], held_out: HeldOut) -> list[np.ndarray]:
    """Return float64[B] recalls of plans of one effort, each from the first 20 k_factor results of one search."""
    fetch = min(K * plans[-1].k_factor, len(catalog))
    results = approximate.search(held_out.vectors, fetch, params=search_parameters(plans[-1], None))[1].astype(np.int32)
    recalls = []
    for plan in plans:
        candidates = np.ascontiguousarray(results[:, : K * plan.k_factor])
        recalls.append(held_out.recalls(rerank_topk(held_out.vectors, catalog, candidates, K, 1.0)[1]))
    return recalls


@dataclass(frozen=True, slots=True)
class Chosen:
    """A plan that reached the target: its recall on the check queries, and the median of a single search for 20."""

    plan: SearchPlan
    recall: float
    median_us: float


def choose(
    tried: Sequence[Option], target: float, index_of: Callable[[SearchPlan], AnnIndex], check: HeldOut
) -> Chosen | None:
    """Return the fastest plan that reaches the target for one kind of query, None without one.

    A plan must be a standard error over the target on the queries of the choice, and reach the target on the `check`
    queries, which are not used for the choice. If the check fails, the choice is repeated with more standard errors.
    """
    for caution in _CAUTION:
        reaching = _cheapest([option for option in tried if option.reaches(target, caution)])
        if not reaching:
            continue
        plan, median_us = _fastest(reaching, index_of, check.vectors)
        recall = float(check.recalls(index_of(plan).search(check.vectors, K)[1]).mean())
        if recall >= target:
            return Chosen(plan, recall, median_us)
    return None


def _cheapest(reaching: Sequence[Option]) -> list[SearchPlan]:
    """Return the plans for which no other plan has at most the same effort and k_factor."""
    plans = [option.plan for option in reaching]
    return [
        plan
        for plan in plans
        if not any(other != plan and other.effort <= plan.effort and other.k_factor <= plan.k_factor for other in plans)
    ]


def _fastest(
    plans: Sequence[SearchPlan], index_of: Callable[[SearchPlan], AnnIndex], vectors: np.ndarray
) -> tuple[SearchPlan, float]:
    """Return the plan with the least median time of a search for 20 items, measured in turns, and its median in us."""
    indexes = [index_of(plan) for plan in plans]
    times = np.empty((_TIMED, len(plans)))
    for turn in range(-2, _TIMED):  # two turns to warm up
        query = vectors[turn % len(vectors)][None]
        for column, index in enumerate(indexes):
            begin = time.perf_counter_ns()
            index.search(query, K)
            times[turn, column] = time.perf_counter_ns() - begin
    medians = np.median(times, axis=0) / 1000
    return plans[int(np.argmin(medians))], float(np.min(medians))
