"""The native index: int8 codes find the candidates, their error bounds prove that none is missing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import UsageError
from mtaw_fast.kernels.native.scan import Scanner, is_nested, nested, quantize, requantize, whole
from mtaw_fast.ranking.retrieval.certificate import check_arguments


class NativeIndex:
    """`Index` by one pass over one byte a dimension, on the calling thread.

    catalog: float32[N, d], finite; read only to score a candidate. quantized: the result of
    `kernels.native.scan.quantize` (made here if None, 0.1 s per 10^7 values). Both are kept without a copy, so
    processes share memory maps. With nested codes, searches of few queries read 4 bits of each first (`first_pass`).
    isa: the instruction set, for tests; every one gives the same bits.

    Raises UsageError if the two do not belong together.
    """

    name = "native"

    def __init__(
        self, catalog: np.ndarray, quantized: Mapping[str, np.ndarray] | None = None, isa: str | None = None
    ) -> None:
        self._shape = catalog.shape
        try:
            self._catalog, self.quantized = catalog, quantize(catalog) if quantized is None else quantized
            self.scanner = Scanner(catalog, self.quantized, isa)
        except ValueError as error:
            raise UsageError(f"index native: {error}") from None

    def rebuilt(self, catalog: np.ndarray) -> NativeIndex:
        """Return the index of another catalog float32[N', d]; rows that did not change keep their codes.

        Raises UsageError on a value that is not finite.
        """
        try:
            codes = requantize(catalog, self._catalog, whole(self.quantized))
            return NativeIndex(catalog, nested(codes) if is_nested(self.quantized) else codes)
        except ValueError as error:
            raise UsageError(f"index native: {error}") from None

    def search(
        self, queries: np.ndarray, k: int, allowed: Filter | None = None, *, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Search as `Index.search` does."""
        n_items, d = self._shape
        check_arguments(queries, d, k, allowed, n_items)
        bits = None if allowed is None else allowed.packed
        try:
            return self.scanner.search(np.ascontiguousarray(queries), k, scale, bits)
        except ValueError as error:  # a query that is not finite, a scale that is not positive
            raise UsageError(str(error)) from None
