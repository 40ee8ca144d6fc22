"""Top-K search of the catalog. Every exact index gives the same ids and scores, bit for bit.

An index finds candidates with fast arithmetic. It keeps every item that a proven error bound cannot rule out
(`certificate.py`, `kernels/native/scan/bounds.hpp`). Native code then scores and orders the candidates exactly.
The one approximate index, `ann`, gives exact scores too, but may miss items (`ann_index.py`).
"""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import BundleError, UsageError, require
from mtaw_fast.errors.install import install_command
from mtaw_fast.kernels.native.scan import is_nested
from mtaw_fast.ranking.retrieval.ann_plan import read_entry
from mtaw_fast.ranking.retrieval.first_pass import with_first_pass
from mtaw_fast.ranking.retrieval.native_index import NativeIndex
from mtaw_fast.ranking.retrieval.numpy_index import NumpyIndex

__all__ = [
    "EXACT_INDEXES",
    "EXACT_ITEMS",
    "AnnFile",
    "Index",
    "IndexName",
    "NativeIndex",
    "NumpyIndex",
    "ann_file_of",
    "check_index_name",
    "for_items",
    "make_index",
]

EXACT_INDEXES = ("native", "numpy", "faiss-flat")  # those without a GPU: the tests hold each to the contract
EXACT_ITEMS = 300_000  # up to here an exact scan takes about as long as an approximate search
IndexName = Literal["auto", "native", "numpy", "faiss-flat", "faiss-gpu", "ann"]  # "faiss-gpu:1" names another GPU
_NAMES = get_args(IndexName)
_ON_DEVICE = re.compile(r"faiss-gpu:[0-9]{1,3}")
_LOG = logging.getLogger("mtaw_fast")


class Index(Protocol):
    """Axes: B queries, N items, d dimensions. Thread-safe."""

    @property
    def name(self) -> str:
        """The name that `make_index` takes."""
        ...

    def search(
        self, queries: np.ndarray, k: int, allowed: Filter | None = None, *, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best items of each query: (ids int32[B, k], scores float32[B, k]), best first.

        queries: float32[B, d], finite. k: at least 1. allowed: only these items. scale: factor on the dot product, > 0.

        A row is padded with -1 / -inf if fewer than k items are allowed. score = float32(scale * dot), the dot
        accumulated in float64; ties go to the lower id. Raises UsageError on queries, k or a filter that do not fit
        the catalog.
        """
        ...


def for_items(index: Index) -> Index:
    """Return the form of an index to search with item vectors; `index` itself is for session vectors.

    An approximate index has a plan for each, as either may be the harder kind of query. Such an index has a method
    `for_items() -> Index`. Any other index is returned as it is.
    """
    method: Callable[[], Index] | None = getattr(index, "for_items", None)
    return index if method is None else method()


@dataclass(frozen=True, slots=True)
class AnnFile:
    """The approximate index in a bundle: its file and the manifest's entry about it."""

    path: Path
    entry: Mapping[str, Any]


def ann_file_of(bundle: Bundle) -> AnnFile | None:
    """Return the index that `mtaw-fast export --index` added to the bundle, or None."""
    path = bundle.file("index")
    return None if path is None else AnnFile(path, bundle.manifest.get("index", {}))


def make_index(
    name: str, catalog: np.ndarray, quantized: Mapping[str, np.ndarray] | None = None, ann: AnnFile | None = None
) -> Index:
    """Make the index `name` over catalog float32[N, d].

    'auto' is 'native' up to EXACT_ITEMS items. Above that it is 'faiss-gpu' if FAISS sees a GPU with enough memory,
    else 'ann' if the bundle has an index and FAISS is installed, else 'native'. 'faiss-gpu' is the first GPU,
    'faiss-gpu:1' the second.

    quantized: the bundle's part 'scan'; without it the catalog is quantized here. ann: the bundle's approximate index.

    Raises UsageError on an unknown name, 'ann' without an index in the bundle, or 'faiss-gpu' without a GPU that fits
    the catalog; BundleError if the quantized catalog or the index file belongs to another catalog, or a value is not
    finite; MissingPackageError if the index needs a package that is not installed.
    """
    check_index_name(name)
    if name == "auto":
        return _best(catalog, quantized, ann)
    _LOG.info("index: %s (requested)", name)
    if name == "native":
        return _native_index(catalog, quantized)
    if name == "numpy":
        return NumpyIndex(catalog)
    require("faiss", "cpu")
    if name == "faiss-flat":
        from mtaw_fast.ranking.retrieval.faiss_flat import FaissFlatIndex

        return FaissFlatIndex(catalog)
    if name != "ann":  # faiss-gpu, or faiss-gpu:NUMBER
        from mtaw_fast.ranking.retrieval.faiss_gpu import FaissGpuIndex

        return FaissGpuIndex(catalog, _native_index(catalog, quantized), name)
    if ann is None:
        raise UsageError("index 'ann': the bundle has no index; add one with 'mtaw-fast export BUNDLE --index auto'")
    return _ann_index(catalog, _native_index(catalog, quantized), ann)


def check_index_name(name: str) -> None:
    """Raise UsageError unless `make_index` knows the name."""
    if name not in _NAMES and not _ON_DEVICE.fullmatch(name):
        raise UsageError(
            f"there is no index {name!r}; choose one of {', '.join(_NAMES)}, or faiss-gpu:1 for the second GPU"
        )


def _best(catalog: np.ndarray, quantized: Mapping[str, np.ndarray] | None, ann: AnnFile | None) -> Index:
    """Make the index for 'auto'; see `make_index`."""
    large = len(catalog) > EXACT_ITEMS
    has_faiss = large and importlib.util.find_spec("faiss") is not None
    native = _native_index(catalog, quantized)
    if has_faiss:
        from mtaw_fast.ranking.retrieval.faiss_gpu import FaissGpuIndex, n_gpus, temporary_bytes

        if n_gpus() > 0:
            temporary_bytes()  # raises on a wrong setting; only a refusal by the GPU makes auto choose another index
            try:
                index = FaissGpuIndex(catalog, native)
            except UsageError as error:
                _LOG.warning("index: auto continues without the GPU: %s", error)
            else:
                _LOG.info("index: faiss-gpu (auto)")
                return index
    if has_faiss and ann is not None:
        _LOG.info("index: ann (auto)")
        return _ann_index(catalog, native, ann)
    if large and ann is not None:
        _LOG.warning("the bundle's index needs FAISS, which is not installed: %s", install_command("cpu"))
    _LOG.info("index: native (auto)")
    return native


def _ann_index(catalog: np.ndarray, exact: NativeIndex, ann: AnnFile) -> Index:
    from mtaw_fast.ranking.retrieval.ann_index import load_ann

    return load_ann(ann.path, catalog, read_entry(str(ann.path), ann.entry)[0], exact)


def _native_index(catalog: np.ndarray, quantized: Mapping[str, np.ndarray] | None) -> NativeIndex:
    if quantized is None:
        _LOG.info("index: the bundle has no quantized catalog; quantizing %d items at load", len(catalog))
    try:
        index = NativeIndex(catalog, quantized)
    except UsageError as error:
        damage = "catalog cannot be quantized" if quantized is None else "quantized catalog does not fit it"
        raise BundleError(f"the bundle's {damage}: {error}") from None
    codes, first_pass = with_first_pass(catalog, index.quantized)
    if first_pass.ratio is not None:
        _LOG.info("index: first pass over %s", first_pass)
    return index if is_nested(codes) == is_nested(index.quantized) else NativeIndex(catalog, codes)
