"""FAISS's IndexFlatIP made exact: over-fetch, widen until nothing can be missing, rerank."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.data.ranked_lists import padded_lists
from mtaw_fast.kernels.native import rerank_topk
from mtaw_fast.ranking.retrieval.certificate import checked_norms, largest_norm, margins

_EXTRA = 12  # results fetched beyond k at first: near-ties are rare, so one round nearly always does
_WIDEN = 4
_CHUNK_RESULTS = 1 << 22  # results in memory at once while widening: 48 MB


class FaissFlatIndex:
    """`Index` by faiss.IndexFlatIP over a copy of the catalog, one OpenMP thread a search.

    catalog: float32[N, d]; the rerank reads it, FAISS has its own copy.
    """

    name = "faiss-flat"

    def __init__(self, catalog: np.ndarray) -> None:
        self._catalog = catalog
        self._norm = largest_norm(catalog)
        self._index = faiss.IndexFlatIP(catalog.shape[1])
        self._index.add(catalog)

    def search(
        self, queries: np.ndarray, k: int, allowed: Filter | None = None, *, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`."""
        n_items, d = self._catalog.shape
        norms = checked_norms(queries, d, k, allowed, n_items)
        margin = margins(d, norms, self._norm, scale)
        queries = np.ascontiguousarray(queries)
        ids, scores = padded_lists(len(queries), k)
        count = n_items if allowed is None else allowed.count
        if count == 0:
            return ids, scores
        pending = np.arange(len(queries))
        fetch = min(k + _EXTRA, count)
        with one_thread():
            while len(pending):
                incomplete = []
                step = max(1, _CHUNK_RESULTS // fetch)
                for begin in range(0, len(pending), step):
                    rows = pending[begin : begin + step]
                    block = queries[rows]
                    dots, internal_ids = self._index.search(block, fetch, params=_parameters(allowed))
                    # An item that was not fetched has a dot of at most the last one fetched.
                    threshold = dots[:, min(k, fetch) - 1].astype(np.float64) - margin[rows]
                    complete = (dots[:, -1] < threshold) if fetch < count else np.ones(len(rows), dtype=bool)
                    incomplete.append(rows[~complete])
                    if complete.any():
                        near = dots >= threshold[:, None]
                        candidates = np.where(near, internal_ids, -1).astype(np.int32)[complete]
                        ids[rows[complete]], scores[rows[complete]] = rerank_topk(
                            block[complete], self._catalog, candidates, k, scale
                        )
                pending = np.concatenate(incomplete)
                fetch = min(fetch * _WIDEN, count)
        return ids, scores


def _parameters(allowed: Filter | None) -> Any:
    if allowed is None:
        return None
    library: Any = faiss  # its Python layer replaces the constructors that SWIG declares
    return library.SearchParameters(sel=library.IDSelectorBitmap(allowed.packed))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let FAISS search on the calling thread alone; restore its OpenMP setting afterwards.

    Waking a second thread for one query costs more than the scan. omp_set_num_threads acts on the calling thread (each
    has its own setting in libgomp). So it is set around every search, not once at load, and other users of OpenMP in
    the process keep theirs.
    """
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(n_threads)
