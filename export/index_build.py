"""Build FAISS's approximate indexes over a catalog, find their fastest parameters for a recall, and write them.

Recall@k of a query is the share of its k results whose exact score is at least the true k-th best score: items that
tie for the last position all count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from mtaw_fast.kernels.native import rerank_topk
from mtaw_fast.ranking.retrieval import Index
from mtaw_fast.ranking.retrieval.ann_index import AnnIndex, search_parameters
from mtaw_fast.ranking.retrieval.ann_plan import Recall, SearchPlan, SearchPlans, index_entry
from mtaw_fast.storage.files import atomic_path

K = 20
LONG = 100  # recall at this k is reported, without a target
_LINKS = 32  # neighbors of a node on each level of HNSW, 64 on the lowest
_CONSTRUCTION = 80  # nodes in the queue while inserting one into HNSW
_TRAINING_ROUNDS = 10
_POINTS_A_LIST = 64  # training vectors of k-means for each list; FAISS's 256 take four times as long
_CHUNK = 1 << 17
_EFFORTS = tuple(sorted({step << power for power in range(20) for step in (1, 3)}))  # 1, 2, 3, 4, 6, 8, 12, ..
_K_FACTORS = {"ivfpq": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32), "hnsw": (2,)}  # HNSW's distances are exact up to rounding
_MIN_EFFORT = {"ivfpq": 1, "hnsw": 2 * K}  # efSearch is at least the number of results
_MAX_NODES = 2048  # largest efSearch; above it is far slower than an exact search
_CAUTION = (1.0, 2.0, 3.0)  # standard errors
_TIMED = 40
_QUERIES = ("session vectors", "item vectors")

Say = Callable[[str], None]


def build(kind: str, catalog: np.ndarray, seed: int, say: Say) -> tuple[Any, str]:
    """Build the index `kind` ('ivfpq' or 'hnsw') of catalog float32[N, d], on FAISS's OpenMP threads.

    Returns it with its factory string. Equal arguments give equal indexes on one thread; on several, HNSW's links
    depend on their timing.
    """
    index, factory = _ivfpq(catalog, seed, say) if kind == "ivfpq" else _hnsw(catalog.shape[1])
    for begin in range(0, len(catalog), _CHUNK):
        say(f"adding items {begin:,} of {len(catalog):,}")
        index.add(np.ascontiguousarray(catalog[begin : begin + _CHUNK]))
    return index, factory


def _ivfpq(catalog: np.ndarray, seed: int, say: Say) -> tuple[Any, str]:
    """Train inverted lists with 4-bit codes a dimension, of the offsets from the list's center.

    4 bits a dimension take d/2 bytes an item. 2 bits (two dimensions a code) are read faster, but clustered vectors
    then need over 5 times as many exactly scored candidates for the same recall.
    """
    n_items, d = catalog.shape
    n_lists = min(n_items, 1 << max(0, round(math.log2(4 * math.sqrt(n_items)))))
    factory = f"IVF{n_lists},PQ{d}x4fs"
    index: Any = faiss.index_factory(d, factory, faiss.METRIC_INNER_PRODUCT)
    for clustering in (index.cp, index.pq.cp):
        clustering.seed = seed + 1
        clustering.min_points_per_centroid = 1  # the default warns about small catalogs
    index.cp.niter = _TRAINING_ROUNDS
    sample = catalog
    if n_items > n_lists * _POINTS_A_LIST:
        chosen = np.random.default_rng(seed).choice(n_items, n_lists * _POINTS_A_LIST, replace=False)
        sample = catalog[np.sort(chosen)]
    say(f"training {n_lists:,} lists on {len(sample):,} items")
    index.train(np.ascontiguousarray(sample))
    return index, factory


def _hnsw(d: int) -> tuple[Any, str]:
    """Make a graph over the float32 vectors: 4 d + 4 * 2 * _LINKS bytes an item."""
    index = faiss.IndexHNSWFlat(d, _LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _CONSTRUCTION
    return index, f"HNSW{_LINKS},Flat"


def write_index(path: Path, index: Any) -> None:
    """Write a FAISS index atomically and durably; a full disk is an MtawError, as in `atomic_path`."""
    library: Any = faiss  # its Python layer adds what its type stubs lack
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        # FAISS's own file writer does not report the cause of a failure.
        library.write_index(index, library.PyCallbackIOWriter(stream.write))
        stream.flush()


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Queries float32[B, d] with their exact scores. kth: {k: float32[B]}, the true k-th best score, k at most N."""

    vectors: np.ndarray
    kth: dict[int, np.ndarray]

    @classmethod
    def halves(cls, sessions: np.ndarray, items: np.ndarray, exact: Index) -> list[tuple[HeldOut, HeldOut]]:
        """Return queries of sessions and of items, twice: to choose plans, and to check them."""
        return [(cls.of(sessions[half::2], exact), cls.of(items[half::2], exact)) for half in (0, 1)]

    @classmethod
    def of(cls, vectors: np.ndarray, exact: Index) -> HeldOut:
        """Find the exact scores with an exact index."""
        vectors = np.ascontiguousarray(vectors)
        scores = exact.search(vectors, LONG)[1]
        return cls(vectors, {k: scores[:, k - 1] for k in (K, LONG)})

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
            tried += _tried(approximate, catalog, plans, queries)
        previous, recalls = recalls, [tried[-1].recall for tried in lists]
        if recalls == previous:
            break
        if all(any(option.reaches(target, _CAUTION[-1]) for option in tried) for tried in lists):
            sure_effort = min(sure_effort, effort)
    return lists


def _tried(approximate: Any, catalog: np.ndarray, plans: Sequence[SearchPlan], held_out: HeldOut) -> list[Option]:
    """Try plans of one effort, each by the first 20 k_factor results of one search."""
    fetch = min(K * plans[-1].k_factor, len(catalog))
    results = approximate.search(held_out.vectors, fetch, params=search_parameters(plans[-1], None))[1].astype(np.int32)
    tried = []
    for plan in plans:
        candidates = np.ascontiguousarray(results[:, : K * plan.k_factor])
        recalls = held_out.recalls(rerank_topk(held_out.vectors, catalog, candidates, K, 1.0)[1])
        tried.append(Option(plan, float(recalls.mean()), float(recalls.std() / len(recalls) ** 0.5)))
    return tried


def choose(
    tried: Sequence[Option], target: float, index_of: Callable[[SearchPlan], AnnIndex], check: HeldOut
) -> tuple[SearchPlan, float, float] | None:
    """Return the fastest plan that reaches the target for one kind of query, None without one.

    A plan must be a standard error over the target on the queries of the choice, and reach the target on the `check`
    queries, which are not used for the choice. If the check fails, the choice is repeated with more standard errors.

    Returns the plan, its recall on the check queries, and the median microseconds of a search for 20.
    """
    for caution in _CAUTION:
        reaching = _cheapest([option.plan for option in tried if option.reaches(target, caution)])
        if reaching:
            plan, median_us = _fastest(reaching, index_of, check.vectors)
            recall = float(check.recalls(index_of(plan).search(check.vectors, K)[1]).mean())
            if recall >= target:
                return plan, recall, median_us
    return None


def _cheapest(plans: Sequence[SearchPlan]) -> list[SearchPlan]:
    """Return the plans for which no other plan has at most the same effort and k_factor."""
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


class MissedError(Exception):
    """No plan of an index reaches the target: for which kinds of query, with the best recall of each."""


def fitted(
    kind: str,
    catalog: np.ndarray,
    exact: Index,
    tune: tuple[HeldOut, HeldOut],
    check: tuple[HeldOut, HeldOut],
    source: str,
    target: float,
    seed: int,
    say: Say,
) -> tuple[Any, dict[str, Any]]:
    """Build an index and find its plans, one for sessions and one for items; return it with the manifest's entry.

    tune, check: the queries of sessions and of items, in order, to choose plans and to check them. source: what the
    sessions are. Raises MissedError, such as "ivfpq misses it on item vectors (the best: 0.9712)".
    """
    began = time.perf_counter()
    built, factory = build(kind, catalog, seed, say)

    def index_of(plan: SearchPlan) -> AnnIndex:
        return AnnIndex(catalog, built, plan, exact)

    say(f"looking for parameters of {factory} with recall@{K} of at least {target:g}")
    tried = options(kind, built, catalog, tune, target)
    by_sessions, by_items = (
        choose(candidates, target, index_of, queries) for candidates, queries in zip(tried, check, strict=True)
    )
    if by_sessions is None or by_items is None:
        best = {
            queries: max(option.recall for option in candidates)
            for queries, candidates, chosen in zip(_QUERIES, tried, (by_sessions, by_items), strict=True)
            if chosen is None
        }
        say(f"{factory} does not reach it on {' and '.join(best)}")
        listed = " and ".join(f"{queries} (the best: {recall:.4f})" for queries, recall in best.items())
        raise MissedError(f"{kind} misses it on {listed}")
    (sessions_plan, of_sessions, sessions_us), (items_plan, of_items, items_us) = by_sessions, by_items
    sessions = check[0]
    at_100 = float(sessions.recalls(index_of(sessions_plan).search(sessions.vectors, LONG)[1], LONG).mean())
    facts = {
        "factory": factory,
        "faiss": faiss.__version__,
        "seed": seed,
        "seconds": round(time.perf_counter() - began, 1),
        "median_us": round(sessions_us, 1),
        "items_median_us": round(items_us, 1),
    }
    recall = Recall(
        target, round(of_sessions, 5), round(of_items, 5), round(at_100, 5), len(sessions.vectors), source
    )  # fmt: skip
    return built, index_entry(SearchPlans(sessions_plan, items_plan), recall, facts)
