"""Top-K of the catalog. Every index gives the same ids and scores, bit for bit.

An index finds candidates with fast arithmetic, takes in all that a proven error bound cannot rule out
(`certificate.py`, `kernels/native/scan/bounds.hpp`), and lets native code score and order them exactly.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from mtaw_fast.errors import BundleError, UsageError, require
from mtaw_fast.filters import Filter
from mtaw_fast.retrieval.exact import ExactIndex
from mtaw_fast.retrieval.scan import ScanIndex

__all__ = ["INDEXES", "ExactIndex", "Index", "ScanIndex", "make_index"]

INDEXES = ("scan", "exact", "flat")
_LOG = logging.getLogger("mtaw_fast")


class Index(Protocol):
    """Axes: B queries, N items, d dimensions. Thread-safe."""

    name: str

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


def make_index(name: str, catalog: np.ndarray, quantised: Mapping[str, np.ndarray] | None = None) -> Index:
    """The index `name` over catalog float32[N, d]; 'auto' is 'scan'.

    quantised: the bundle's 'scan' part. Raises UsageError on an unknown name, MissingPackageError where the index
    needs a package, BundleError where the quantised catalog is not this one's or a value is not finite.
    """
    if name == "auto":
        chosen = "scan"
        _LOG.info("index: %s (auto)", chosen)
    elif name in INDEXES:
        chosen = name
        _LOG.info("index: %s (asked for)", chosen)
    else:
        raise UsageError(f"there is no index {name!r}; choose one of auto, {', '.join(INDEXES)}")
    if chosen == "scan":
        return _scan_index(catalog, quantised)
    if chosen == "exact":
        return ExactIndex(catalog)
    require("faiss", "cpu")
    from mtaw_fast.retrieval.flat import FlatIndex

    return FlatIndex(catalog)


def _scan_index(catalog: np.ndarray, quantised: Mapping[str, np.ndarray] | None) -> ScanIndex:
    if quantised is None:
        _LOG.info("index: the bundle has no quantised catalog; quantising %d items at load", len(catalog))
    try:
        return ScanIndex(catalog, quantised)
    except UsageError as error:
        damage = "catalog cannot be quantised" if quantised is None else "quantised catalog does not fit it"
        raise BundleError(f"the bundle's {damage}: {error}") from None
