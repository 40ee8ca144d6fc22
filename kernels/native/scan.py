"""The exact scanner: top-K of a catalog in about the time it takes to read one byte a dimension."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtaw_fast.kernels.native import _native

__all__ = [
    "LAYOUT",
    "Scanner",
    "check_quantized",
    "halved",
    "multiply_codes",
    "pays_in_halves",
    "quantize",
    "quantized_shapes",
    "read_bytes",
    "requantize",
]

LAYOUT = 1  # of the blocks; kernels/native/scan/layout.hpp describes it
_LINE_BYTES, _LINE_DIMS, _BLOCK_ITEMS = 64, 4, 16
# Bytes of int8 codes from which 4-bit ones are stored in a bundle: they paid there on every CPU that was measured.
# Whether an index reads them is measured (`ranking.retrieval.first_pass`).
_LARGE = 1 << 25
_LARGEST_EXPONENT = 256
_SUMMARY = 8  # layout, N, d, exponent, largest norm, largest residual, two zeros: 64 bytes, a whole cache line


def quantized_shapes(n_items: int, d: int, halves: bool | None = None) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Name, dtype and shape of the arrays that `quantize` gives for float32[N, d]."""
    n_blocks = -(-n_items // _BLOCK_ITEMS)
    blocks = {"blocks": -(-d // _LINE_DIMS) + 1}
    if pays_in_halves(n_items, d) if halves is None else halves:
        blocks["half_blocks"] = -(-d // (2 * _LINE_DIMS)) + 1
    shapes = {name: (np.dtype(np.uint8), (n_blocks, lines, _LINE_BYTES)) for name, lines in blocks.items()}
    return {**shapes, "summary": (np.dtype(np.float64), (_SUMMARY,))}


def pays_in_halves(n_items: int, d: int) -> bool:
    """Whether 4-bit codes are worth storing: the int8 ones outgrow the caches of a usual CPU."""
    return n_items * d >= _LARGE


def quantize(catalog: np.ndarray, halves: bool | None = None) -> dict[str, np.ndarray]:
    """The int8 codes of catalog float32[N, d] (C-contiguous, finite), on one thread; releases the GIL.

    Returns the arrays of `quantized_shapes`: 'blocks', d + 4 bytes an item (d rounded up to a multiple of 4),
    'summary', and, with `halves` (None: where they pay), 'half_blocks', 4-bit codes of d / 2 + 4 bytes an item (d
    rounded up to a multiple of 8). They can be stored and mapped; on a cache line's boundary (64 bytes) they are read
    fastest.

    Raises ValueError on a wrong type or shape, d over 16384, or a value that is not finite.
    """
    if halves is None:
        halves = catalog.ndim == 2 and pays_in_halves(*catalog.shape)
    blocks, half_blocks, exponent, largest_norm, largest_residual = _native.scan_quantize(catalog, halves)
    n_items, d = catalog.shape
    summary = np.array([LAYOUT, n_items, d, exponent, largest_norm, largest_residual, 0, 0], dtype=np.float64)
    return {"blocks": blocks, "summary": summary, **({"half_blocks": half_blocks} if halves else {})}


def halved(quantized: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the same arrays and 'half_blocks', made of the int8 codes alone: of each code the upper half.

    It takes some 0.05 s per 10^6 items of d = 100, on one thread; releases the GIL.
    """
    d, largest_residual = int(quantized["summary"][2]), float(quantized["summary"][5])
    half_blocks, residual = _native.scan_halve(quantized["blocks"], d, largest_residual)
    summary = quantized["summary"].copy()
    summary[5] = residual
    return {**quantized, "half_blocks": half_blocks, "summary": summary}


def requantize(catalog: np.ndarray, before: np.ndarray, quantized: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As `quantize(catalog, halves=False)`, faster for a catalog that is an earlier one but for some rows.

    Rows that are those of `before` at the same places, to the bit, keep their codes, block by block of 16 items.

    Parameters
    ----------
    catalog : float32[N, d]
    before : float32[N', d]
        The earlier catalog, as it was when `quantized` was made.
    quantized : Mapping[str, np.ndarray]
        What `quantize` or `requantize` made of `before`, without halves.

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
    """Raise ValueError unless these are the arrays that `quantize` gives for some float32[N, d], halves or not."""
    for name, (dtype, shape) in quantized_shapes(n_items, d, "half_blocks" in quantized).items():
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
    are shared between processes. isa: the instruction set (`isa.hpp`), by default the process's own; all give the same
    bits.

    Raises ValueError on arrays that do not fit each other, or codes that are not this catalog's.
    """

    def __init__(self, catalog: np.ndarray, quantized: Mapping[str, np.ndarray], isa: str | None = None) -> None:
        check_quantized(quantized, *catalog.shape)
        exponent, largest_norm, largest_residual = quantized["summary"][3:6].tolist()
        if not (exponent.is_integer() and abs(exponent) < _LARGEST_EXPONENT):
            raise ValueError(f"the quantized catalog has the exponent {exponent}; quantize it again")
        half_blocks = quantized.get("half_blocks")
        self.native = _native.Scanner(
            catalog, quantized["blocks"], half_blocks, int(exponent), largest_norm, largest_residual, isa
        )

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


def multiply_codes(codes: np.ndarray, blocks: np.ndarray, isa: str | None = None) -> int:
    """Multiply the codes of queries with those of all items, and do nothing with the sums: a batch's lower bound.

    codes: int8[B, 4 L], B a multiple of 32; blocks: uint8[n, L + 1, 64], as `quantize` gives them. Returns a checksum.
    Releases the GIL. Raises ValueError on other shapes, or where the instruction set is below VNNI.
    """
    return _native.multiply_codes(codes, blocks, isa)
