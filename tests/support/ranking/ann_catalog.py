"""A clustered catalog, and approximate indexes over it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.ranking.retrieval import AnnFile
from mtaw_fast.ranking.retrieval.ann_plan import Recall, SearchPlan, SearchPlans, index_entry

faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")

from mtaw_fast.export.index_build import build, write_index  # noqa: E402

N, D = 4000, 21
RECALL = Recall(0.99, 0.995, 0.996, 0.98, 1000, "a test")
PLANS = {"ivfpq": SearchPlan("ivfpq", 24, 6), "hnsw": SearchPlan("hnsw", 96, 2)}
BOTH = {kind: SearchPlans(plan, SearchPlan(kind, 2 * plan.effort, 3 * plan.k_factor)) for kind, plan in PLANS.items()}


@cache
def catalog() -> np.ndarray:
    """Clusters, with some items twice and some of zeros."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((80, D))[rng.integers(0, 80, N)] + 0.5 * rng.standard_normal((N, D))
    rows[1000:1100] = rows[900:1000]
    rows[7] = 0
    return normalized(rows.astype(np.float32))


@cache
def approximate(kind: str) -> Any:
    return build(kind, catalog(), 0, lambda _: None)[0]


def ann_file(folder: Path, kind: str) -> AnnFile:
    write_index(folder / "index.faiss", approximate(kind))
    return AnnFile(folder / "index.faiss", index_entry(BOTH[kind], RECALL, {}))
