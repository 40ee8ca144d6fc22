"""The exact scanner over int8 codes: a quarter of the float32 catalog's bytes, the same answer bit for bit."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from mtaw_fast.errors import BundleError
from mtaw_fast.filters import Filter
from mtaw_fast.kernels.native.scan import Scanner, quantise
from mtaw_fast.retrieval.certificate import checked_queries

_LOG = logging.getLogger("mtaw_fast")


class ScanIndex:
    """`Index` by `mtaw_fast.kernels.native.scan`, on the calling thread, without the GIL.

    catalog: float32[N, d]; quantised: what `quantise` made of it, as a bundle holds it (None: made here). Both are
    kept as they are: memory maps are shared between processes. Raises BundleError where they do not fit each other.
    """

    name = "scan"

    def __init__(self, catalog: np.ndarray, quantised: Mapping[str, np.ndarray] | None = None) -> None:
        if quantised is None:
            _LOG.info("index: the bundle has no quantised catalog; quantising %d items at load", len(catalog))
            try:
                quantised = quantise(catalog)
            except ValueError as error:
                raise BundleError(f"the bundle's catalog cannot be quantised: {error}") from None
        try:
            self.scanner = Scanner(catalog, quantised)
        except ValueError as error:
            raise BundleError(f"the bundle's quantised catalog does not fit it: {error}") from None
        self._n_items, self._d = catalog.shape

    def search(
        self, queries: np.ndarray, k: int, allowed: Filter | None = None, *, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`."""
        checked_queries(queries, self._d, k, allowed, self._n_items)
        bits = None if allowed is None else allowed.packed
        return self.scanner.search(np.ascontiguousarray(queries), k, scale, bits)
