"""Serving on a GPU: batches through `encoder="onnx-cuda"` and `index="faiss-gpu"`, and FAISS's flat index alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.gpu.setting import Setting, WrongResultError, gate
from bench.harness.workload import generated
from mtaw_fast.errors import MtawError
from mtaw_fast.export.onnx_model import export_onnx
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.ranking.retrieval import Index, make_index
from mtaw_fast.recommender import Recommender

_K = 20
_SCORES = 1e-4  # of the largest score: encoders agree to 2e-6 of a unit vector


def serving(setting: Setting) -> Iterator[dict[str, Any]]:
    """Rank the best 20 of the catalog by batch size: on the GPU, half on it, and on the CPU."""
    n_items, sizes = setting.large, (1, 8) if setting.dry else (1, 32, 1024)
    # Dry, the replacements take the same paths: a padded batch in one run, an index that over-fetches and reranks.
    cuda, gpu = ("onnx", "faiss-flat") if setting.dry else ("onnx-cuda", "faiss-gpu")
    with tempfile.TemporaryDirectory(prefix="mtaw-bench-gpu-") as folder:
        work = generated(n_items, Path(folder) / "bundle")
        export_onnx(work.bundle.folder, ["float32"], part="encoder")
        engine = Recommender.load(work.bundle.folder, encoder="native", index="native", verify=False)
        _, truth = engine.rank(work.serve.slice(0, 64), _K)
        for encoder, index in ((cuda, gpu), ("native", gpu), (cuda, "native"), ("native", "native")):
            facts: dict[str, Any] = {
                "encoder": encoder,
                "index": index,
                "N": n_items,
                "d": work.bundle.config.model.embedding_dim,
            }
            try:
                ranks = Recommender.load(work.bundle.folder, encoder=encoder, index=index, verify=False)
                _, scores = ranks.rank(work.serve.slice(0, 64), _K)
            except MtawError as refused:
                yield {**facts, "skipped": str(refused)}
                continue
            error = gate(f"scores of {encoder} and {index}", torch.from_numpy(scores), torch.from_numpy(truth), _SCORES)
            for size in sizes:
                sessions = work.serve.slice(0, size)
                time = setting.host_time(lambda ranks=ranks, sessions=sessions: ranks.rank(sessions, _K))
                rate = {"sessions_s": round(size / time["p50_us"] * 1e6, 1)} if time else {}
                yield {**facts, "batch": size, "error": f"{error:.1e}", **time, **rate}


def faiss_flat(setting: Setting) -> Iterator[dict[str, Any]]:
    """Find the best 20 by `index="faiss-gpu"`, by the GpuIndexFlatIP within it, and by the CPU's exact index."""
    sizes = (1, 8) if setting.dry else (1, 32, 1024)
    for n_items in (setting.items, setting.large):
        drawn = normalized(setting.normal(n_items + max(sizes), setting.d).cpu().numpy())  # one draw: see `inputs`
        vectors, queries = drawn[:n_items], drawn[n_items:]
        scan = make_index("native", vectors)
        facts: dict[str, Any] = {"N": n_items, "d": setting.d, "k": _K}
        try:
            index = make_index("faiss-flat" if setting.dry else "faiss-gpu", vectors)
        except MtawError as refused:
            yield {**facts, "index": "faiss-gpu", "skipped": str(refused)}
            continue
        _check_same(index, scan, queries[:32])
        for size in sizes:
            batch = queries[:size]
            searches: dict[str, Callable[[], Any]] = {
                index.name: lambda batch=batch, index=index: index.search(batch, _K),
                "FAISS alone": lambda batch=batch, index=index: index._index.search(batch, _K),
                "native (CPU)": lambda batch=batch, scan=scan: scan.search(batch, _K),
            }
            for name, work in searches.items():
                yield {**facts, "index": name, "batch": size, "error": "the same bits", **setting.host_time(work)}


def _check_same(index: Index, scan: Index, queries: np.ndarray) -> None:
    for result, truth in zip(index.search(queries, _K), scan.search(queries, _K), strict=True):
        if result.tobytes() != truth.tobytes():
            raise WrongResultError(f"index {index.name!r} does not give what the exact scan gives")
