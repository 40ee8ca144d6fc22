"""FAISS's flat index on a GPU, made exact like the one on the CPU: over-fetch, widen, rerank.

Not run on a GPU yet: the tests replace the GPU by FAISS's CPU index, with the errors of faiss-gpu without a card.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.kernels.native import rerank_topk
from mtaw_fast.ranking.retrieval.certificate import checked_norms, largest_norm, margins
from mtaw_fast.ranking.retrieval.gpu_memory import (
    check_memory,
    device_of,
    queries_a_call,
    reason_of,
    refusal,
    temporary_bytes,
)
from mtaw_fast.ranking.retrieval.shared_calls import SharedCalls

if TYPE_CHECKING:
    from mtaw_fast.ranking.retrieval import Index

_EXTRA = 12
# Fetched results, rounded up to a power of two, so that searches of about the same k share a call. FAISS's selection
# has a kernel for each of these sizes, and none for more.
_MIN_FETCH, _MAX_FETCH = 32, 2048


class FaissGpuIndex:
    """`Index` by GpuIndexFlatIP in float32 on one GPU, with an exact CPU index for what a GPU index cannot do.

    Three cases go to `exact`: filters, k over 2048 minus the over-fetch, and the rare query with more near-ties than
    that. The proof in `certificate.py` holds for float32 sums in any order. It does not hold for TF32
    (NVIDIA_TF32_OVERRIDE) or for cuVS, which is switched off.

    FAISS's GPU resources serve one thread at a time. A replica for every thread would multiply the memory and the
    reads of the catalog. So threads that wait share the next call (`shared_calls.py`). Each caller certifies and
    reranks its results on its own thread, so no answer depends on the other queries of the call.

    Parameters
    ----------
    catalog : float32[N, d]
        The rerank reads it; the GPU has a copy.
    exact : Index
        Over the same catalog.
    name : str, default 'faiss-gpu'
        'faiss-gpu' or 'faiss-gpu:NUMBER', of the device.

    Raises
    ------
    UsageError
        If FAISS does not see the GPU or cannot use it, or MTAW_GPU_TEMP_MIB is not a valid amount of memory;
        TooLittleMemoryError if the GPU has too little free memory.
    """

    def __init__(self, catalog: np.ndarray, exact: Index, name: str = "faiss-gpu") -> None:
        self.name = name
        self._catalog, self._exact = catalog, exact
        device, temporary = device_of(name), temporary_bytes()
        n_items, d = catalog.shape
        check_memory(name, device, n_items, d, temporary)
        try:
            self._resources, self._index = _on_device(catalog, device, temporary)
        except RuntimeError as error:
            raise refusal(name, error, device, n_items, d, temporary) from None
        self._norm = largest_norm(catalog)
        self._calls = SharedCalls(self._search, queries_a_call(temporary, n_items, d, _MAX_FETCH))
        self._process = os.getpid()

    def search(
        self, queries: np.ndarray, k: int, allowed: Filter | None = None, *, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Search as `Index.search` does. Raises MtawError if the GPU fails during the search."""
        n_items, d = self._catalog.shape
        norms = checked_norms(queries, d, k, allowed, n_items)
        needed = min(k + _EXTRA, n_items)
        if allowed is not None or needed > _MAX_FETCH or len(queries) == 0:
            return self._exact.search(queries, k, allowed, scale=scale)
        if os.getpid() != self._process:
            raise UsageError(f"index '{self.name}' was loaded before this process was forked; load it after the fork")
        fetch = min(max(_MIN_FETCH, 1 << (needed - 1).bit_length()), n_items)
        queries = np.ascontiguousarray(queries)
        dots, internal_ids = self._calls.search(queries, fetch)
        # An item that was not fetched has a dot of at most the last one fetched.
        threshold = dots[:, min(k, fetch) - 1].astype(np.float64) - margins(d, norms, self._norm, scale)
        candidates = np.where(dots >= threshold[:, None], internal_ids, -1).astype(np.int32)
        ids, scores = rerank_topk(queries, self._catalog, candidates, k, scale)
        open_rows = np.flatnonzero(dots[:, -1] >= threshold) if fetch < n_items else np.empty(0, dtype=np.int64)
        if len(open_rows):
            ids[open_rows], scores[open_rows] = self._exact.search(queries[open_rows], k, scale=scale)
        return ids, scores

    def _search(self, queries: np.ndarray, fetch: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            return self._index.search(queries, fetch)
        except RuntimeError as error:
            raise MtawError(
                f"index '{self.name}': the GPU failed ({reason_of(error)}); check what else runs on it, then load again"
            ) from None


def _on_device(catalog: np.ndarray, device: int, temporary: int) -> tuple[Any, Any]:
    """Return FAISS's resources and the index over the catalog, both on a GPU.

    Pinned memory stays at 0: FAISS uses it only for queries of over 256 MB, and ours are smaller.
    """
    library: Any = faiss  # a FAISS for CPUs, which mypy may see, has none of these
    resources = library.StandardGpuResources()
    resources.setTempMemory(temporary)
    resources.setPinnedMemory(0)
    config = library.GpuIndexFlatConfig()
    config.device = device
    config.use_cuvs = False
    config.useFloat16 = False
    index = library.GpuIndexFlatIP(resources, catalog.shape[1], config)
    index.add(catalog)
    return resources, index
