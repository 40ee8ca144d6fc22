"""The approximate index for catalogs of millions: FAISS finds candidates in a fraction of the catalog, we score them.

Scores are exact, bit for bit, and no result is outside the filter. The index may miss an item of the true top k; the
recall that export measured is in the bundle's manifest.

A search uses the exact index instead, and is then certified like any exact search, if
  - k is over LARGEST_K: the recall was measured for smaller lists;
  - the filter allows less than MIN_SHARE of the items: few of them would be in the lists that are read;
  - fewer than k results were found although more items are allowed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import BundleError, DataError
from mtaw_fast.kernels.native import rerank_topk
from mtaw_fast.ranking.retrieval.ann_plan import LARGEST_K, REMEDY, SearchPlan, SearchPlans
from mtaw_fast.ranking.retrieval.certificate import checked_norms
from mtaw_fast.ranking.retrieval.faiss_flat import one_thread
from mtaw_fast.storage.sealed_file import SealedFile, open_sealed

if TYPE_CHECKING:
    from mtaw_fast.ranking.retrieval import Index

MIN_SHARE = 1 / 16

_CLASSES = {"ivfpq": "IndexIVFPQFastScan", "hnsw": "IndexHNSWFlat"}


class AnnIndex:
    """`Index` by an approximate FAISS index over a catalog float32[N, d], together with an exact one.

    approximate: FAISS's index of the plan's kind, as `export` builds it. exact: an exact `Index` of the same catalog.
    items_plan: the plan of `for_items`, if it is another. Queries are searched one at a time on the calling thread, so
    that an answer never depends on its batch.
    """

    name = "ann"

    def __init__(
        self,
        catalog: np.ndarray,
        approximate: Any,
        plan: SearchPlan,
        exact: Index,
        items_plan: SearchPlan | None = None,
    ) -> None:
        self.plan = plan
        self._catalog = catalog
        self._approximate = approximate
        self._exact = exact
        self._max_effort = approximate.nlist if plan.kind == "ivfpq" else len(catalog)
        self._unfiltered = search_parameters(plan, None)
        self.file: SealedFile | None = None  # kept, so that other processes find the copy and share it
        self._by_items = self
        if items_plan is not None and items_plan != plan:
            self._by_items = AnnIndex(catalog, approximate, items_plan, exact)

    def for_items(self) -> AnnIndex:
        """Return the same index searched by its plan for item vectors; see `retrieval.for_items`."""
        return self._by_items

    def search(
        self, queries: np.ndarray, k: int, allowed: Filter | None = None, *, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Search as `Index.search` does; the approximate search may miss items."""
        n_items, d = self._catalog.shape
        checked_norms(queries, d, k, allowed, n_items)
        count = n_items if allowed is None else allowed.count
        if k > LARGEST_K or count < MIN_SHARE * n_items:
            return self._exact.search(queries, k, allowed, scale=scale)
        parameters = self._unfiltered
        if allowed is not None:
            parameters = search_parameters(self.plan.widened(count / n_items, self._max_effort), allowed)
        queries = np.ascontiguousarray(queries)
        fetch = min(k * self.plan.k_factor, count)
        candidates = np.empty((len(queries), fetch), dtype=np.int32)
        with one_thread():
            for b in range(len(queries)):
                candidates[b] = self._approximate.search(queries[b : b + 1], fetch, params=parameters)[1][0]
        ids, scores = rerank_topk(queries, self._catalog, candidates, k, scale)
        short = np.flatnonzero(ids[:, min(k, count) - 1] < 0)
        if len(short):
            ids[short], scores[short] = self._exact.search(queries[short], k, allowed, scale=scale)
        return ids, scores


def load_ann(path: Path, catalog: np.ndarray, plans: SearchPlans, exact: Index) -> AnnIndex:
    """Read the index file of a bundle. Raises BundleError unless it is the plans' kind of index of this catalog."""
    try:
        sealed = open_sealed(path)
    except DataError as error:
        raise BundleError(str(error)) from None
    try:
        loaded = faiss.read_index(str(sealed.readable), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:200]
        raise BundleError(f"{path} is not an index that FAISS {faiss.__version__} reads ({reason}); {REMEDY}") from None
    n_items, d = catalog.shape
    expected = (_CLASSES[plans.sessions.kind], n_items, d)
    if (type(loaded).__name__, loaded.ntotal, loaded.d) != expected:
        raise BundleError(
            f"{path} is {type(loaded).__name__} over {loaded.ntotal} x {loaded.d} values, the bundle needs "
            f"{expected[0]} over {n_items} x {d}; {REMEDY}"
        )
    index = AnnIndex(catalog, loaded, plans.sessions, exact, plans.items)
    index.file = sealed
    return index


def search_parameters(plan: SearchPlan, allowed: Filter | None) -> Any:
    """Return FAISS's own form of a plan, with the filter as its selector."""
    library: Any = faiss  # its Python layer replaces the constructors that SWIG declares
    selector = None if allowed is None else library.IDSelectorBitmap(allowed.packed)
    if plan.kind == "ivfpq":
        return library.SearchParametersIVF(nprobe=plan.effort, sel=selector)
    return library.SearchParametersHNSW(efSearch=plan.effort, sel=selector)
