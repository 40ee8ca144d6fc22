"""FAISS's flat index on a GPU, made exact like the one on the CPU: over-fetch, widen, rerank.

Not run on a GPU yet: the tests put FAISS's CPU index in the GPU's place.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import faiss
import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.kernels.native import rerank_topk
from mtaw_fast.ranking.retrieval.certificate import checked_queries, largest_norm, margins

if TYPE_CHECKING:
    from mtaw_fast.ranking.retrieval import Index

_EXTRA = 12
_MOST = 2048  # results that FAISS's GPU selection gives at most


class GpuFlatIndex:
    """`Index` by GpuIndexFlatIP in float32 on the first GPU, with an exact CPU index for what a GPU index cannot do.

    Filters, k over 2048 less the over-fetch, and the rare query with more near-ties than that go to `exact`. The proof
    in `certificate.py` holds for float32 sums in any order, so not where NVIDIA_TF32_OVERRIDE puts TF32 in their place.
    """

    name = "gpu"

    def __init__(self, catalog: np.ndarray, exact: Index) -> None:
        self._catalog = catalog
        self._norm = largest_norm(catalog)
        self._exact = exact
        self._resources = faiss.StandardGpuResources()
        self._index = faiss.index_cpu_to_gpu(self._resources, 0, faiss.IndexFlatIP(catalog.shape[1]))
        self._index.add(catalog)
        self._lock = threading.Lock()  # FAISS's GPU resources serve one thread at a time

    def search(
        self, queries: np.ndarray, k: int, allowed: Filter | None = None, *, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`."""
        n_items, d = self._catalog.shape
        norms = checked_queries(queries, d, k, allowed, n_items)
        fetch = min(k + _EXTRA, n_items)
        if allowed is not None or fetch > _MOST or len(queries) == 0:
            return self._exact.search(queries, k, allowed, scale=scale)
        queries = np.ascontiguousarray(queries)
        with self._lock:
            dots, found = self._index.search(queries, fetch)
        # An item that was not fetched has a dot of at most the last one fetched.
        threshold = dots[:, min(k, fetch) - 1].astype(np.float64) - margins(d, norms, self._norm, scale)
        candidates = np.where(dots >= threshold[:, None], found, -1).astype(np.int32)
        ids, scores = rerank_topk(queries, self._catalog, candidates, k, scale)
        open_rows = np.flatnonzero(dots[:, -1] >= threshold) if fetch < n_items else np.empty(0, dtype=np.int64)
        if len(open_rows):
            ids[open_rows], scores[open_rows] = self._exact.search(queries[open_rows], k, scale=scale)
        return ids, scores
