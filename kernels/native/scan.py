"""The exact scanner: top-K of a catalog in about the time it takes to read one byte a dimension."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtaw_fast.kernels.native import _native

__all__ = [
    "LAYOUT",
    "Scanner",
    "check_quantized",
    "is_nested",
    "nested",
    "pays_nested",
    "quantize",
    "quantized_shapes",
    "read_bytes",
    "requantize",
    "whole",
]

LAYOUT = 1  # of the blocks; kernels/native/scan/layout.hpp describes it
_LINE_BYTES, _LINE_DIMS, _BLOCK_ITEMS = 64, 4, 16
# Bytes of int8 codes from which a bundle stores them nested: a first pass over their high halves paid there on every
# CPU that was measured. Which form an index reads is measured (`ranking.retrieval.first_pass`).
_LARGE = 1 << 25
_LARGEST_EXPONENT = 256
_SUMMARY = 8  # layout, N, d, exponent, largest norm, largest residual, two zeros: 64 bytes, a whole cache line


def quantized_shapes(n_items: int, d: int, nested: bool | None = None) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Name, dtype and shape of the arrays that `quantize` gives for float32[N, d]."""
    n_blocks = -(-n_items // _BLOCK_ITEMS)
    half_lines = -(-d // (2 * _LINE_DIMS)) + 1
    if pays_nested(n_items, d) if nested is None else nested:
        blocks = {"half_blocks": half_lines, "low_blocks": half_lines}
    else:
        blocks = {"blocks": -(-d // _LINE_DIMS) + 1}
    shapes = {name: (np.dtype(np.uint8), (n_blocks, lines, _LINE_BYTES)) for name, lines in blocks.items()}
    return {**shapes, "summary": (np.dtype(np.float64), (_SUMMARY,))}


def pays_nested(n_items: int, d: int) -> bool:
    """Whether codes are stored nested: whole ones outgrow the caches of a usual CPU."""
    return n_items * d >= _LARGE


def is_nested(quantized: Mapping[str, np.ndarray]) -> bool:
    """Whether the codes are nested."""
    return "low_blocks" in quantized


def quantize(catalog: np.ndarray, nested: bool | None = None) -> dict[str, np.ndarray]:
    """The int8 codes of catalog float32[N, d] (C-contiguous, finite), on one thread; releases the GIL.

    Returns the arrays of `quantized_shapes`: 'summary' and, whole, 'blocks', d + 4 bytes an item (d rounded up to a
    multiple of 4). Nested (None: where it pays) they are 'half_blocks', the upper 4 bits of each code, and
    'low_blocks', the lower ones: d / 2 + 4 bytes an item each (d rounded up to a multiple of 8). The 4 bytes are the
    item's step and residual for the codes. The arrays can be stored and mapped; on a cache line's boundary (64 bytes)
    they are read fastest.

    Raises ValueError on a wrong type or shape, d over 16384, or a value that is not finite.
    """
    if nested is None:
        nested = catalog.ndim == 2 and pays_nested(*catalog.shape)
    codes: dict[str, np.ndarray] = {}
    if nested:
        codes["half_blocks"], codes["low_blocks"], *rest = _native.scan_quantize_nested(catalog)
    else:
        codes["blocks"], *rest = _native.scan_quantize(catalog)
    return {**codes, "summary": np.array([LAYOUT, *catalog.shape, *rest, 0, 0], dtype=np.float64)}


def nested(quantized: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Return the codes nested, of whatever form they have.

    It takes some 0.1 s per 10^6 items of d = 100, on one thread, or 0.04 s for `whole`; releases the GIL.
    """
    if is_nested(quantized):
        return quantized
    summary = quantized["summary"].copy()
    half, low, summary[5] = _native.scan_nest(quantized["blocks"], int(summary[2]), float(summary[5]))
    return {"half_blocks": half, "low_blocks": low, "summary": summary}


def whole(quantized: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Return the codes whole, of whatever form they have; as `nested`."""
    if not is_nested(quantized):
        return quantized
    summary = quantized["summary"]
    blocks = _native.scan_join(quantized["half_blocks"], quantized["low_blocks"], int(summary[2]))
    return {"blocks": blocks, "summary": summary}


def requantize(catalog: np.ndarray, before: np.ndarray, quantized: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the result of `quantize(catalog, nested=False)`, faster if few rows differ from an earlier catalog.

    A block of 16 items keeps its codes if its rows equal the same rows of `before`, to the bit.

    Parameters
    ----------
    catalog : float32[N, d]
    before : float32[N', d]
        The earlier catalog, as it was when `quantized` was made.
    quantized : Mapping[str, np.ndarray]
        What `quantize` or `requantize` made of `before`, whole.

    Returns
    -------
    dict[str, np.ndarray]
        'blocks' and 'summary' of `catalog`. The summary bounds the rows of both catalogs.

    Raises
    ------
    ValueError
        On a wrong type or shape, or a value that is not finite.
    """
    check_quantized(quantized, *before.shape)
    exponent, largest_norm, largest_residual = quantized["summary"][3:6].tolist()
    blocks, *rest = _native.scan_requantize(
        catalog, before, quantized["blocks"], int(exponent), largest_norm, largest_residual
    )
    summary = np.array([LAYOUT, *catalog.shape, *rest, 0, 0], dtype=np.float64)
    return {"blocks": blocks, "summary": summary}


def check_quantized(quantized: Mapping[str, np.ndarray], n_items: int, d: int) -> None:
    """Raise ValueError unless these are the arrays that `quantize` gives for some float32[N, d], whole or nested."""
    for name, (dtype, shape) in quantized_shapes(n_items, d, is_nested(quantized)).items():
        array = quantized.get(name)
        if array is None:
            raise ValueError(f"the array '{name}' of the quantized catalog is missing; quantize it again")
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(
                f"'{name}' of the quantized catalog must be {dtype}{list(shape)}, "
                f"not {array.dtype}{list(array.shape)}; quantize it again"
            )
    stated = quantized["summary"][:3].tolist()
    if stated != [LAYOUT, n_items, d]:
        raise ValueError(
            f"the quantized catalog states layout, items and dimensions {stated}, not {[LAYOUT, n_items, d]}; "
            "quantize it again"
        )


class Scanner:
    """Exact top-K over a catalog and its codes. Immutable; any number of threads may search at once.

    catalog: float32[N, d], finite; quantized: what `quantize` made of it. All are kept, not copied: memory maps
    are shared between processes. With nested codes, searches of one to eight queries read the high halves of all items
    and the low halves of those that are left; larger batches join chunks of the codes. isa: the instruction set
    (`isa.hpp`), by default the process's own; all give the same bits.

    Raises ValueError on arrays that do not fit each other, or codes that are not this catalog's.
    """

    def __init__(self, catalog: np.ndarray, quantized: Mapping[str, np.ndarray], isa: str | None = None) -> None:
        check_quantized(quantized, *catalog.shape)
        exponent, largest_norm, largest_residual = quantized["summary"][3:6].tolist()
        if not (exponent.is_integer() and abs(exponent) < _LARGEST_EXPONENT):
            raise ValueError(f"the quantized catalog has the exponent {exponent}; quantize it again")
        blocks, half, low = (quantized.get(name) for name in ("blocks", "half_blocks", "low_blocks"))
        self.native = _native.Scanner(catalog, blocks, half, low, int(exponent), largest_norm, largest_residual, isa)

    def search(
        self,
        queries: np.ndarray,
        k: int,
        scale: float,
        allowed: np.ndarray | None = None,
        excluded: np.ndarray | None = None,
        excluded_offsets: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best items of each query, on the calling thread; releases the GIL.

        queries: float32[B, d], finite. allowed: uint8[ceil(N / 8)], item i in bit i % 8 of byte i / 8 (as
        `Filter.packed`): only these items. excluded, excluded_offsets: int32[..] and int64[B + 1]; query b does not
        find the ids excluded[offsets[b] : offsets[b + 1]], which ascend: for short lists, no bitmap is made.

        Returns (ids int32[B, k], scores float32[B, k]) as `rerank_topk` of all N candidates does, bit for bit.
        Raises ValueError on a wrong type, shape or order, k < 1, a query that is not finite, or a scale that is not
        positive and finite.
        """
        return self.native.search(queries, k, scale, allowed, excluded, excluded_offsets)


def read_bytes(array: np.ndarray, isa: str | None = None) -> int:
    """Read a C-contiguous array once, front to back, as fast as one core can: the lower bound of a scan's time.

    Returns the sum, modulo 2^64, of its whole 8-byte words. Releases the GIL.
    """
    return _native.read_bytes(array, isa)
