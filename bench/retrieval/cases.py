"""The cases of the retrieval bench: exact search by one query and by batches, and the approximate index."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from bench.harness import machine
from bench.harness.agreement import TIE, ranking_error
from bench.harness.comparison import Case, Contender, Floor, Plan, limit_threads
from bench.retrieval.vectors import SOURCE, VectorSet
from mtaw_fast.errors import UsageError
from mtaw_fast.export.index_build import HeldOut, MissedError, fitted, write_index
from mtaw_fast.kernels.native import reference
from mtaw_fast.ranking.retrieval import Index
from mtaw_fast.ranking.retrieval.ann_index import AnnIndex, load_ann
from mtaw_fast.ranking.retrieval.ann_plan import read_entry
from mtaw_fast.storage.files import write_json

K = 20
_CHECKED_SCORES = 1 << 24  # true scores that a check computes, at most: queries x catalog
_RECALL_QUERIES = 2048
_ITEMS = 2000
_KIND = "ivfpq"
_LEVELS = 8  # of Panorama's bounds
Ranking = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class RetrievalCases:
    """Cases over one set of vectors, on one thread. exact: our exact index.

    floor: of one query, the read of the int8 codes.
    """

    vectors: VectorSet
    exact: Index
    floor: Floor
    plan: Plan

    @cached_property
    def _flat(self) -> Any:
        index = faiss.IndexFlatIP(self.vectors.catalog.shape[1])
        index.add(self.vectors.catalog)
        return index

    @cached_property
    def _panorama(self) -> Any:
        """FAISS's exact index that stops reading an item once its bound is under the k-th score."""
        dim = self.vectors.catalog.shape[1]
        index = faiss.IndexFlatIPPanorama(dim, min(_LEVELS, dim))
        index.add(self.vectors.catalog)
        return index

    def _contender(self, name: str, batch: int, search: Callable[[np.ndarray], Ranking]) -> Contender:
        """Return a contender that searches the batches of the queries in turn."""
        rows = self.vectors.queries
        groups = [rows[begin : begin + batch] for begin in range(0, len(rows) - batch + 1, batch)]
        return Contender(name, lambda call: search(groups[call % len(groups)]))

    def _search_flat(self, queries: np.ndarray) -> Ranking:
        """Search by FAISS's plain loop for small batches, and its matrix products for large ones."""
        return self._flat.search(queries, K)[::-1]

    def _search_flat_by_products(self, queries: np.ndarray) -> Ranking:
        default = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = 1
        found = self._search_flat(queries)
        faiss.cvar.distance_compute_blas_threshold = default
        return found

    def exact_case(self, batch: int, plan: Plan) -> Case:
        """Return `exact` (batch 1) or `exact-batch`: every answer is checked against float64 brute force."""
        searches = {"faiss-flat": self._search_flat}
        if batch > 1:
            searches["faiss-flat-blas1"] = self._search_flat_by_products
        searches["faiss-panorama"] = lambda queries: self._panorama.search(queries, K)[::-1]
        return Case(
            "exact" if batch == 1 else "exact-batch",
            {**self.vectors.params, "k": K, "batch": batch, "threads": 1, "index": self.exact.name},
            "latency_us",
            self._contender("ours", batch, lambda queries: self.exact.search(queries, K)),
            [self._contender(name, batch, search) for name, search in searches.items()],
            lambda contender: self._wrong(contender, batch),
            plan,
            self.floor if batch == 1 else None,
        )

    @cached_property
    def _checked(self) -> int:
        return min(64, max(4, _CHECKED_SCORES // len(self.vectors.catalog)))

    @cached_property
    def _brute_force(self) -> Ranking:
        """The definition of equal ranking, for the checked queries: all items scored in float64, rounded, sorted."""
        everything = np.arange(len(self.vectors.catalog), dtype=np.int32)
        candidates = np.broadcast_to(everything, (self._checked, len(everything)))
        return reference.rerank_topk(self.vectors.queries[: self._checked], self.vectors.catalog, candidates, K, 1.0)

    @cached_property
    def _truth(self) -> np.ndarray:
        return self.vectors.true_cosines(self._checked)

    def _wrong(self, contender: Contender, batch: int) -> str | None:
        for number in range(max(1, self._checked // batch)):
            rows = slice(number * batch, min(number * batch + batch, self._checked))
            ids, scores = (part[: rows.stop - rows.start] for part in contender.run(number))
            if contender.name != "ours":
                if error := ranking_error(ids, scores, self._truth[rows], TIE):
                    return error
            elif any(
                part.tobytes() != true[rows].tobytes()
                for part, true in zip((ids, scores), self._brute_force, strict=True)
            ):
                return f"queries {rows.start}..{rows.stop - 1}: ids or scores are not those of float64 brute force"
        return None

    def ann_case(self, ann: AnnIndex, target: float) -> Case:
        """Return `ladder`, by its plan for sessions; refused if other queries recall too little."""
        unseen = np.ascontiguousarray(self.vectors.unseen[:_RECALL_QUERIES])
        recall = float(recalls(self.exact.search(unseen, K)[1], ann.search(unseen, K)[1]).mean())

        def wrong(contender: Contender) -> str | None:
            if contender.name == "ours":
                return None if recall >= target else f"its recall@{K} is {recall:.4f}, under the target {target:g}"
            return self._wrong(contender, 1)

        params = {
            **self.vectors.params, "k": K, "batch": 1, "threads": 1,
            "kind": ann.plan.kind, **ann.plan.as_dict(), "recall": round(recall, 4),
        }  # fmt: skip
        others = [
            self._contender("faiss-flat", 1, self._search_flat),
            self._contender(f"exact-{self.exact.name}", 1, lambda queries: self.exact.search(queries, K)),
        ]
        ours = self._contender("ours", 1, lambda queries: ann.search(queries, K))
        return Case("ladder", params, "latency_us", ours, others, wrong, self.plan, None)


def recalls(true_scores: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return float64[B]: the share of each query's results whose exact score reaches the true k-th best one.

    true_scores, scores: float32[B, k], best first.
    """
    return (scores >= true_scores[:, -1:]).mean(axis=1)


def ann_index_for(vectors: VectorSet, exact: Index, target: float, cache: Path, say: Callable[[str], None]) -> AnnIndex:
    """Return the approximate index over a set of vectors, built once; its plan comes from `vectors.choosing`.

    Raises UsageError if it does not reach the target.
    """
    path = cache / vectors.key / f"ladder-{_KIND}-{target:g}.faiss"
    entry_path = path.with_suffix(".json")
    if not entry_path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        items = vectors.catalog[np.random.default_rng(0).permutation(len(vectors.catalog))[:_ITEMS]]
        with limit_threads(machine.usable_cores()):
            tune, check = HeldOut.halves(vectors.choosing, items, exact)
            try:
                index, entry = fitted(
                    _KIND, vectors.catalog, exact, tune, check, f"queries of {SOURCE}", target, 0, say
                )
            except MissedError as missed:
                raise UsageError(f"no approximate index reaches recall@{K} {target:g}: {missed}") from None
        write_index(path, index)
        write_json(entry_path, entry)
    return load_ann(path, vectors.catalog, read_entry(str(path), json.loads(entry_path.read_text()))[0], exact)
