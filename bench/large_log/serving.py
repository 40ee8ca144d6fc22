"""Serve a catalog of millions of items: time to open the bundle, latency, memory, by the exact and the ann index."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import limit_threads
from bench.harness.peak_memory import in_new_process, restart_peak
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.synthetic import draw_sessions
from mtaw_fast.memory import MemoryTables
from mtaw_fast.ranking.retrieval import ann_file_of
from mtaw_fast.system.memory_use import peak_memory

K = 20
_D, _SESSIONS_AN_ITEM, _CLICKS, _CALLS = 100, 0.2, 10, 200


def make_bundle(folder: Path, n_items: int, ann: bool) -> None:
    """Write a bundle of clustered vectors with a session memory, unless it exists; with `ann` add that index."""
    from bench.scaling.inputs import memory_model, random_ranker
    from mtaw_fast.export.index import export_index

    if not (folder / "manifest.json").exists():
        tables = MemoryTables.build(draw_sessions(n_items, max(int(_SESSIONS_AN_ITEM * n_items), 100)), n_items)
        model = memory_model(tables, n_items, _D, random_ranker())
        Bundle.save(folder, model, metrics={"validation": {}}, dataset={"name": "large"})
    if ann and ann_file_of(Bundle.load(folder)) is None:
        export_index(folder, "ivfpq")


def served(folder: Path, n_items: int, index: str) -> dict[str, float]:
    """Return seconds to open the bundle in a new process, milliseconds of a ranking (p50 and p90 of processor time, p50
    on the clock), and the peak resident MB."""
    outcome, _ = in_new_process(f"serving with {index}", _served, folder, n_items, index)
    return dict(outcome[0])


def _served(ready: Callable[[], None], folder: Path, n_items: int, index: str) -> tuple[dict[str, Any]]:
    from bench.scaling.inputs import sessions_of
    from mtaw_fast import Recommender

    with limit_threads(1):
        sessions = [(clicks + 1).tolist() for clicks in sessions_of(n_items, _CLICKS, _CALLS)]
        restart_peak()
        ready()
        began, cpu_began = time.perf_counter(), time.process_time()
        recommender = Recommender.load(folder, index=index)
        opened, opening = time.perf_counter() - began, time.process_time() - cpu_began
        for session in sessions[: _CALLS // 10]:
            recommender.recommend(session, k=K)
        clock, processor = [], []
        for session in sessions:
            began, cpu_began = time.perf_counter(), time.process_time()
            recommender.recommend(session, k=K)
            clock.append(1e3 * (time.perf_counter() - began))
            processor.append(1e3 * (time.process_time() - cpu_began))
    p50, p90 = np.percentile(processor, [50, 90])
    return (
        {
            "open_s": opened, "open_processor_s": opening, "processor_ms_p50": p50, "processor_ms_p90": p90,
            "latency_ms_p50": float(np.median(clock)), "peak_mb": peak_memory() / 1e6,
        },
    )  # fmt: skip
