"""Top-K of the catalog. Every exact index gives the same ids and scores, bit for bit.

An index finds candidates with fast arithmetic, takes in all that a proven error bound cannot rule out
(`certificate.py`, `kernels/native/scan/bounds.hpp`), and lets native code score and order them exactly. The one
approximate index, `ladder`, gives exact scores too, but may miss items (`ladder.py`).
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
from mtaw_fast.errors.install_command import install_command
from mtaw_fast.ranking.retrieval.ann_plan import read_entry
from mtaw_fast.ranking.retrieval.native_index import NativeIndex
from mtaw_fast.ranking.retrieval.numpy_index import NumpyIndex

__all__ = [
    "EXACT_ITEMS",
    "INDEXES",
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

INDEXES = ("native", "numpy", "faiss-flat")
EXACT_ITEMS = 300_000  # up to here an exact scan takes about as long as an approximate search
IndexName = Literal[
    "auto", "native", "numpy", "faiss-flat", "faiss-gpu", "ann"
]  # and "faiss-gpu:1" and so on, another device
_NAMES = get_args(IndexName)
_ON_DEVICE = re.compile(r"gpu:[0-9]{1,3}")
_LOG = logging.getLogger("mtaw_fast")


class Index(Protocol):
    """Axes: B queries, N items, d dimensions. Thread-safe."""

    @property
    def name(self) -> str:
        """What `make_index` calls it."""
        ...

    def search(
        self, queries: np.ndarray, k: int, allowed: Filter | None = None, *, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of each query.

        queries: float32[B, d], finite. k: at least 1. allowed: only these items. scale: factor on the
        dot product, > 0.

        Returns (ids int32[B, k], scores float32[B, k]), best first, padded with -1 / -inf where
        fewer than k items are allowed. score = float32(scale * float64-accumulated dot); ties go to the
        lower id. Raises UsageError on queries, k or a filter that do not fit the catalog.
        """
        ...


def for_items(index: Index) -> Index:
    """The form of an index to search with item vectors; `index` itself is for session vectors.

    An approximate index has a plan for each, as either may be the harder kind of query. An index that tells them apart
    has a method `for_items() -> Index`; of any other it is the index itself.
    """
    own: Callable[[], Index] | None = getattr(index, "for_items", None)
    return index if own is None else own()


@dataclass(frozen=True, slots=True)
class AnnFile:
    """The approximate index in a bundle: its file and the manifest's entry about it."""

    path: Path
    entry: Mapping[str, Any]


def ann_file_of(bundle: Bundle) -> AnnFile | None:
    """What `mtaw-fast export --index` added to the bundle; None where it added nothing."""
    path = bundle.file("index")
    return None if path is None else AnnFile(path, bundle.manifest.get("index", {}))


def make_index(
    name: str,
    catalog: np.ndarray,
    quantized: Mapping[str, np.ndarray] | None = None,
    ladder: AnnFile | None = None,
) -> Index:
    """The index `name` over catalog float32[N, d].

    'auto' is 'native' up to EXACT_ITEMS items. Above, it is 'faiss-gpu' where FAISS sees a GPU that has the memory, else
    'ann' where the bundle has an index and FAISS is installed, else 'native'. 'faiss-gpu' is the first GPU, 'faiss-gpu:1' the
    second. quantized: the bundle's 'native' part.

    Raises UsageError on an unknown name, 'ann' without an index in the bundle or 'faiss-gpu' without one that can hold the
    catalog, BundleError where the quantized catalog or the index file is not this catalog's or a value is not finite,
    MissingPackageError where the index needs a package.
    """
    check_index_name(name)
    if name == "auto":
        return _best(catalog, quantized, ladder)
    _LOG.info("index: %s (asked for)", name)
    if name == "native":
        return _native_index(catalog, quantized)
    if name == "numpy":
        return NumpyIndex(catalog)
    require("faiss", "cpu")
    if name == "faiss-flat":
        from mtaw_fast.ranking.retrieval.faiss_flat import FaissFlatIndex

        return FaissFlatIndex(catalog)
    if name != "ann":
        from mtaw_fast.ranking.retrieval.faiss_gpu import FaissGpuIndex

        return FaissGpuIndex(catalog, _native_index(catalog, quantized), name)
    if ladder is None:
        raise UsageError("index 'ann': the bundle has no index; add one with 'mtaw-fast export BUNDLE --index auto'")
    return _ann_index(catalog, _native_index(catalog, quantized), ladder)


def check_index_name(name: str) -> None:
    """Raise UsageError where `make_index` knows no index of this name."""
    if name not in _NAMES and not _ON_DEVICE.fullmatch(name):
        raise UsageError(f"there is no index {name!r}; choose one of {', '.join(_NAMES)}, or gpu:1 for the second GPU")


def _best(catalog: np.ndarray, quantized: Mapping[str, np.ndarray] | None, ladder: AnnFile | None) -> Index:
    """What 'auto' stands for; see `make_index`."""
    large = len(catalog) > EXACT_ITEMS
    has_faiss = large and importlib.util.find_spec("faiss") is not None
    scan = _native_index(catalog, quantized)
    if has_faiss:
        from mtaw_fast.ranking.retrieval.gpu_memory import sees_gpu, temporary_bytes

        if sees_gpu():
            from mtaw_fast.ranking.retrieval.faiss_gpu import FaissGpuIndex

            temporary_bytes()  # a slip in the setting is told; only what the GPU refuses is gone around
            try:
                index = FaissGpuIndex(catalog, scan)
            except UsageError as refused:
                _LOG.warning("index: auto goes on without the GPU: %s", refused)
            else:
                _LOG.info("index: gpu (auto)")
                return index
    if has_faiss and ladder is not None:
        _LOG.info("index: ladder (auto)")
        return _ann_index(catalog, scan, ladder)
    if large and ladder is not None:
        _LOG.warning("the bundle's index needs FAISS, which is not installed: %s", install_command("cpu"))
    _LOG.info("index: scan (auto)")
    return scan


def _ann_index(catalog: np.ndarray, scan: NativeIndex, ladder: AnnFile) -> Index:
    from mtaw_fast.ranking.retrieval.ann_index import load_ann

    plans, recall = read_entry(str(ladder.path), ladder.entry)
    return load_ann(ladder.path, catalog, plans, scan, recall)


def _native_index(catalog: np.ndarray, quantized: Mapping[str, np.ndarray] | None) -> NativeIndex:
    if quantized is None:
        _LOG.info("index: the bundle has no quantized catalog; quantizing %d items at load", len(catalog))
    try:
        return NativeIndex(catalog, quantized)
    except UsageError as error:
        damage = "catalog cannot be quantized" if quantized is None else "quantized catalog does not fit it"
        raise BundleError(f"the bundle's {damage}: {error}") from None
