"""The native kernels in plain numpy: what the tests hold them against."""

from __future__ import annotations

import numpy as np


def rerank_topk(
    queries: np.ndarray, catalog: np.ndarray, candidates: np.ndarray, k: int, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Same arguments and result as `mtaw_fast.kernels.native.rerank_topk`, bit for bit."""
    ids = np.full((len(queries), k), -1, dtype=np.int32)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for b, query in enumerate(queries.astype(np.float64)):
        chosen = candidates[b][candidates[b] >= 0]
        rows = catalog[chosen].astype(np.float64)
        sums = np.zeros(len(chosen), dtype=np.float64)
        for i in range(len(query)):
            sums += query[i] * rows[:, i]
        with np.errstate(over="ignore"):
            values = (scale * sums).astype(np.float32)
        order = np.lexsort((chosen, -values, np.isnan(values)))[:k]
        ids[b, : len(order)] = chosen[order]
        scores[b, : len(order)] = values[order]
    return ids, scores
