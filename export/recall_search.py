"""Finding the fastest search parameters of an index that reach a recall on held-out vectors.

Recall@k of a query is the share of its k results whose exact score is at least the true k-th best score: items that
tie for the last place count alike.
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
_K_FACTORS = {
    "ivfpq": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
    "hnsw": (2,),
}  # HNSW's own distances are exact but for rounding
_LEAST_EFFORT = {"ivfpq": 1, "hnsw": 2 * K}  # HNSW holds at least what it is to return
_MOST_NODES = 2048  # efSearch; far slower than an exact scan beyond
_CAUTION = (1.0, 2.0, 3.0)
_TIMED = 40


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Queries and the truth about them.

    vectors: float32[B, d]. kth: {k: float32[B]}, the true k-th best score, k at most N.
    """

    vectors: np.ndarray
    kth: dict[int, np.ndarray]

    @classmethod
    def of(cls, vectors: np.ndarray, exact: Index, ks: Sequence[int]) -> HeldOut:
        """Find the truth with an exact index."""
        vectors = np.ascontiguousarray(vectors)
        scores = exact.search(vectors, max(ks))[1]
        return cls(vectors, {k: scores[:, k - 1] for k in ks})

    def recalls(self, scores: np.ndarray, k: int = K) -> np.ndarray:
        """float64[B]: recall@k of each query's results, by their exact scores float32[B, k] (-inf: no result)."""
        return (scores >= self.kth[k][:, None]).mean(axis=1)


@dataclass(frozen=True, slots=True)
class Option:
    """A plan with what the choosing queries said of it: recall@20 and its standard error."""

    plan: SearchPlan
    recall: float
    error: float

    def reaches(self, target: float, caution: float) -> bool:
        """Whether the recall is `caution` standard errors over the target."""
        return self.recall - caution * self.error >= target


def options(
    kind: str, approximate: Any, catalog: np.ndarray, held_out: Sequence[HeldOut], target: float
) -> list[list[Option]]:
    """For each of `held_out` every plan tried, from the least effort up.

    Ends where more effort finds nothing new for any of them, or is over twice what reaches the target for all with the
    greatest caution: the k_factor that it could still spare costs less than it does.
    """
    most = approximate.nlist if kind == "ivfpq" else min(_MOST_NODES, len(catalog))
    found: list[list[Option]] = [[] for _ in held_out]
    best = [-1.0] * len(held_out)
    surely = most
    for effort in [one for one in _EFFORTS if _LEAST_EFFORT[kind] <= one < most] + [most]:
        if effort > 2 * surely:
            break
        plans = [SearchPlan(kind, effort, k_factor) for k_factor in _K_FACTORS[kind]]
        for tried, one in zip(found, held_out, strict=True):
            rows = _recalls(approximate, catalog, plans, one)
            tried += [
                Option(plan, float(row.mean()), float(row.std() / len(row) ** 0.5))
                for plan, row in zip(plans, rows, strict=True)
            ]
        before, best = best, [tried[-1].recall for tried in found]
        if best == before:
            break
        if all(any(option.reaches(target, _CAUTION[-1]) for option in tried) for tried in found):
            surely = min(surely, effort)
    return found


def _recalls(approximate: Any, catalog: np.ndarray, plans: Sequence[SearchPlan], held_out: HeldOut) -> list[np.ndarray]:
    """float64[B] recalls of plans of one effort: the first 20 k_factor results of one search serve each of them."""
    fetch = min(K * plans[-1].k_factor, len(catalog))
    found = approximate.search(held_out.vectors, fetch, params=search_parameters(plans[-1], None))[1].astype(np.int32)
    recalls = []
    for plan in plans:
        candidates = np.ascontiguousarray(found[:, : K * plan.k_factor])
        recalls.append(held_out.recalls(rerank_topk(held_out.vectors, catalog, candidates, K, 1.0)[1]))
    return recalls


@dataclass(frozen=True, slots=True)
class Chosen:
    """A plan that reached the target: its recall on the check queries, and the median of a single search for 20."""

    plan: SearchPlan
    recall: float
    median_us: float


def choose(
    tried: Sequence[Option], target: float, ladder: Callable[[SearchPlan], AnnIndex], check: HeldOut
) -> Chosen | None:
    """The fastest plan that reaches the target for one kind of query, None where there is none.

    A plan is taken if the choosing queries put it a standard error over the target and the `check` queries, which had
    no part in the choice, put it at the target or over. Where they do not, more caution is asked of the choice.
    """
    for caution in _CAUTION:
        reaching = _least([option for option in tried if option.reaches(target, caution)])
        if not reaching:
            continue
        plan, median_us = _fastest(reaching, ladder, check.vectors)
        recall = float(check.recalls(ladder(plan).search(check.vectors, K)[1]).mean())
        if recall >= target:
            return Chosen(plan, recall, median_us)
    return None


def _least(reaching: Sequence[Option]) -> list[SearchPlan]:
    """The plans that no other one undercuts in both effort and k_factor."""
    plans = [option.plan for option in reaching]
    return [
        plan
        for plan in plans
        if not any(other != plan and other.effort <= plan.effort and other.k_factor <= plan.k_factor for other in plans)
    ]


def _fastest(
    plans: Sequence[SearchPlan], ladder: Callable[[SearchPlan], AnnIndex], vectors: np.ndarray
) -> tuple[SearchPlan, float]:
    """The plan with the least median time of single searches for 20 items, all plans by turns; and its median in us."""
    indexes = [ladder(plan) for plan in plans]
    taken = np.empty((_TIMED, len(plans)))
    for turn in range(-2, _TIMED):  # two turns to warm up
        query = vectors[turn % len(vectors)][None]
        for place, index in enumerate(indexes):
            begin = time.perf_counter_ns()
            index.search(query, K)
            taken[turn, place] = time.perf_counter_ns() - begin
    medians = np.median(taken, axis=0) / 1000
    return plans[int(np.argmin(medians))], float(np.min(medians))
