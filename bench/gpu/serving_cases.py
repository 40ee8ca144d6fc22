"""Serving on a GPU: batches through `encoder="onnx-cuda"` and `index="faiss-gpu"`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bench.gpu.setting import Setting, gate
from bench.harness.workload import generated
from mtaw_fast.errors import MtawError
from mtaw_fast.export.onnx_model import export_onnx
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
