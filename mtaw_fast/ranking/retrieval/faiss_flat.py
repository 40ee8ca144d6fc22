"""FAISS's IndexFlatIP made exact: fetch more than k, search again where something can be missing, rerank."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.data.ranked_lists import padded_lists
from mtaw_fast.kernels.native import rerank_topk
from mtaw_fast.ranking.retrieval.certificate import checked_norms, margins
from mtaw_fast.ranking.retrieval.numpy_index import NumpyIndex

if TYPE_CHECKING:
    from mtaw_fast.ranking.retrieval import Index

EXTRA = 12  # results fetched beyond k: near-ties are rare, so they nearly always suffice


class FaissFlatIndex:
    """`Index` by faiss.IndexFlatIP over a copy of the catalog float32[N, d], one OpenMP thread a search."""

    name = "faiss-flat"

    def __init__(self, catalog: np.ndarray) -> None:
        self._catalog, self._exact = catalog, NumpyIndex(catalog)
        self._index = faiss.IndexFlatIP(catalog.shape[1])
        self._index.add(catalog)

    def search(
        self, queries: np.ndarray, k: int, allowed: Filter | None = None, *, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`."""
        n_items, d = self._catalog.shape
        norms = checked_norms(queries, d, k, allowed, n_items)
        count = n_items if allowed is None else allowed.count
        if count == 0:
            return padded_lists(len(queries), k)
        queries = np.ascontiguousarray(queries)
        with one_thread():
            fetched = self._index.search(queries, min(k + EXTRA, count), params=_parameters(allowed))
        margin = margins(d, norms, self._exact.norm, scale)
        return certified(queries, self._catalog, fetched, margin, self._exact, k, allowed, scale)


def certified(
    queries: np.ndarray,
    catalog: np.ndarray,
    fetched: tuple[np.ndarray, np.ndarray],
    margin: np.ndarray,
    exact: Index,
    k: int,
    allowed: Filter | None,
    scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `Index.search` does from the best items by float32 dots.

    fetched: the dots float32[B, F], descending, and the ids int64[B, F]. An item that was not fetched has a dot of at
    most the last one, so only where that is within float64[B] `margin` of the k-th, the index `exact` searches again.
    """
    dots, found = fetched
    width = dots.shape[1]
    threshold = dots[:, min(k, width) - 1].astype(np.float64) - margin
    candidates = np.where(dots >= threshold[:, None], found, -1).astype(np.int32)
    ids, scores = rerank_topk(queries, catalog, candidates, k, scale)
    if width < (len(catalog) if allowed is None else allowed.count):
        rows = np.flatnonzero(dots[:, -1] >= threshold)
        if len(rows):
            ids[rows], scores[rows] = exact.search(queries[rows], k, allowed, scale=scale)
    return ids, scores


def _parameters(allowed: Filter | None) -> Any:
    if allowed is None:
        return None
    library: Any = faiss  # its Python layer replaces the constructors that SWIG declares
    return library.SearchParameters(sel=library.IDSelectorBitmap(allowed.packed))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let FAISS search on the calling thread alone: waking a second one for one query costs more than the scan.

    omp_set_num_threads acts on the calling thread, so it is set around every search, and other users of OpenMP in the
    process keep their setting.
    """
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(n_threads)
