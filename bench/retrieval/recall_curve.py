"""Recall against latency: our approximate and exact index, and other libraries' approximate indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import Contender, Plan, time_interleaved
from bench.harness.report import Row
from bench.retrieval.cases import K, recalls
from bench.retrieval.peers import Peer, Search
from bench.retrieval.vectors import VectorSet
from mtaw_fast.errors import require
from mtaw_fast.kernels.native import rerank_topk
from mtaw_fast.ranking.retrieval import Index
from mtaw_fast.ranking.retrieval.ann_index import AnnIndex
from mtaw_fast.ranking.retrieval.ann_plan import SearchPlan

_QUERIES = 500
_PLAN = Plan(rounds=40, burst=4, settle=1, warmup=2, seconds=120.0)
_AXIS_FROM = 0.9


@dataclass(frozen=True, slots=True)
class Point:
    """One setting of one index: recall@20 over held-out queries, and single searches in microseconds."""

    name: str
    effort: int
    recall: float
    p50_us: float
    p95_us: float
    p99_us: float
    n: int

    def row(self, params: Mapping[str, Any]) -> Row:
        """Return the result in the bench JSON schema."""
        base = {"k": K, "batch": 1, "threads": 1, "index": self.name, "effort": self.effort}
        return Row(
            "retrieval", "recall-curve", {**params, **base, "recall": round(self.recall, 4)}, "latency_us", self.p50_us,
            self.p95_us, self.p99_us, self.n, None, None, None, None,
        )  # fmt: skip


def our_peers(ann: AnnIndex, exact: Index, efforts: Sequence[int]) -> list[Peer]:
    """Return our approximate index at several efforts, with the rest of its plan as exported, and the exact index."""

    def search_ann(effort: int, k: int) -> Search:
        plan = SearchPlan(ann.plan.kind, effort, ann.plan.k_factor)
        index = ann.with_plan(plan)
        return lambda query: index.search(query, k)[0][0]

    return [
        Peer(f"ann ({ann.plan.kind})", efforts, search_ann),
        Peer(f"exact {exact.name}", (0,), lambda _, k: lambda query: exact.search(query, k)[0][0]),
    ]


def trace(vectors: VectorSet, exact: Index, indexes: Sequence[Peer], plan: Plan = _PLAN) -> list[Point]:
    """Return recall and latency of every index at every effort, all timed in turns; searches return ids alone."""
    queries = np.ascontiguousarray(vectors.queries[:_QUERIES])
    truth = exact.search(queries, K)[1]
    rows = [queries[b : b + 1] for b in range(len(queries))]
    settings: list[tuple[str, int, float]] = []
    contenders = []
    for peer in indexes:
        for effort in peer.efforts:
            search = peer.search(effort, K)
            ids = np.stack([np.asarray(search(row), dtype=np.int64)[:K] for row in rows]).astype(np.int32)
            scores = rerank_topk(queries, vectors.catalog, ids, K, 1.0)[1]
            settings.append((peer.name, effort, float(recalls(truth, scores).mean())))
            name = f"{peer.name} {effort}"
            contenders.append(Contender(name, lambda call, search=search: search(rows[call % len(rows)])))
    timed = time_interleaved(contenders, plan)
    return [
        Point(*setting, timing.median * 1e6, timing.percentile(95) * 1e6, timing.percentile(99) * 1e6, timing.n)
        for setting, timing in zip(settings, timed, strict=True)
    ]


def fastest_at(points: Sequence[Point], target: float) -> list[Point]:
    """Return each index's fastest point of at least the target recall, fastest first."""
    best: dict[str, Point] = {}
    for point in points:
        if point.recall >= target and (point.name not in best or point.p50_us < best[point.name].p50_us):
            best[point.name] = point
    return sorted(best.values(), key=lambda point: point.p50_us)


def draw(points: Sequence[Point], target: float, title: str, path: Path) -> None:
    """Write the curves as a PNG."""
    require("matplotlib", "bench")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    for name in dict.fromkeys(point.name for point in points):
        curve = sorted(
            (point for point in points if point.name == name and point.recall >= _AXIS_FROM),
            key=lambda point: point.recall,
        )
        if curve:
            axes.plot(
                [point.recall for point in curve],
                [point.p50_us for point in curve],
                marker="o",
                markersize=4,
                label=name,
            )
    axes.axvline(target, color="gray", linewidth=1, linestyle="--")
    axes.set(xlabel="recall@20", ylabel="p50 of one query, one thread [us]", yscale="log", title=title)
    axes.grid(visible=True, which="both", linewidth=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
