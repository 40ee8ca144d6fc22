"""Random catalogs, and the ranking of a catalog by definition, in float64."""

from __future__ import annotations

import numpy as np

from mtaw_fast.kernels.native import reference
from mtaw_fast.model.item_vectors import normalized


def unit_rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    return normalized(np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32))


def same(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> bool:
    """Return whether two results of a search are equal to the bit."""
    return all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) for a, b in zip(one, other, strict=True)
    )


def brute_force(
    queries: np.ndarray, catalog: np.ndarray, k: int, mask: np.ndarray | None, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranking by definition: all items scored in float64, rounded, sorted."""
    ids = np.arange(len(catalog), dtype=np.int32)
    candidates = np.broadcast_to(ids if mask is None else np.where(mask, ids, -1), (len(queries), len(catalog)))
    return reference.rerank_topk(queries, catalog, candidates.astype(np.int32), k, scale)
