"""What the native scanner refuses."""

from __future__ import annotations

import numpy as np
import pytest

from mtaw_fast.kernels.native.scan import (
    Scanner,
    nested,
    quantize,
)
from tests.support.kernels.scan import normal


def test_wrong_catalogs_are_refused() -> None:
    catalog = normal(40, 6)
    with pytest.raises(ValueError, match="catalog must be a C-contiguous float32 matrix, not float64"):
        quantize(catalog.astype(np.float64))
    with pytest.raises(ValueError, match="catalog must be a C-contiguous float32 matrix"):
        quantize(np.asfortranarray(catalog))
    with pytest.raises(ValueError, match="1 to 16384 dimensions, not 0"):
        quantize(catalog[:, :0].copy())
    for value in (np.nan, np.inf, -np.inf):
        broken = catalog.copy()
        broken[17, 3] = value
        with pytest.raises(ValueError, match="item 17 of the catalog has a value that is not finite"):
            quantize(broken)


def test_codes_that_do_not_fit_are_refused() -> None:
    catalog = normal(40, 6)
    quantized = quantize(catalog)
    with pytest.raises(ValueError, match="the array 'summary' of the quantized catalog is missing"):
        Scanner(catalog, {"blocks": quantized["blocks"]})
    with pytest.raises(ValueError, match=r"'blocks' .* must be uint8\[3, 3, 64\], not uint8\[2, 3, 64\]"):
        Scanner(catalog, {**quantized, "blocks": quantized["blocks"][:2]})
    with pytest.raises(ValueError, match=r"'blocks' .* must be uint8\[3, 3, 64\], not int8"):
        Scanner(catalog, {**quantized, "blocks": quantized["blocks"].view(np.int8)})
    with pytest.raises(ValueError, match=r"states layout, items and dimensions \[1.0, 40.0, 6.0\], not \[1, 39, 6\]"):
        Scanner(catalog[:39], quantized)
    for place, value in ((0, 2), (3, 0.5), (3, np.nan), (3, 1e9), (4, np.nan), (4, -1), (4, 1e30), (5, np.inf)):
        summary = quantized["summary"].copy()
        summary[place] = value
        with pytest.raises(ValueError, match=r"quantize (it|the catalog) again"):
            Scanner(catalog, {**quantized, "summary": summary})
    parts, turned = nested(quantized), nested(quantize(catalog[::-1].copy()))
    with pytest.raises(ValueError, match="the array 'half_blocks' of the quantized catalog is missing"):
        Scanner(catalog, {"low_blocks": parts["low_blocks"], "summary": parts["summary"]})
    for name in ("half_blocks", "low_blocks"):
        with pytest.raises(ValueError, match=rf"'{name}' .* must be uint8\[3, 2, 64\], not uint8\[3, 3, 64\]"):
            Scanner(catalog, {**parts, name: quantized["blocks"]})
        with pytest.raises(ValueError, match="the catalog's codes belong to other vectors than its rows"):
            Scanner(catalog, {**parts, name: turned[name]})
    for other in (normal(40, 6, seed=1), catalog * np.float32(1.5), catalog[::-1].copy()):
        with pytest.raises(ValueError, match="the catalog's codes belong to other vectors than its rows"):
            Scanner(other, quantized)
    Scanner(catalog, parts)
    for codes, name in ((quantized, "blocks"), (parts, "half_blocks"), (parts, "low_blocks")):
        endless = codes[name].copy()
        endless[-1, -1] = endless[0, -1]  # the places past the last item look like items
        with pytest.raises(ValueError, match="the catalog's codes belong to other vectors than its rows"):
            Scanner(catalog, {**codes, name: endless})


def test_wrong_arguments_are_refused() -> None:
    catalog = normal(40, 6)
    scanner = Scanner(catalog, quantize(catalog))
    queries = catalog[:3].copy()
    with pytest.raises(ValueError, match="queries have 5 dimensions, the catalog 6"):
        scanner.search(queries[:, :5].copy(), 3, 1.0)
    with pytest.raises(ValueError, match="queries must be a C-contiguous float32 matrix"):
        scanner.search(queries.astype(np.float64), 3, 1.0)
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        scanner.search(queries, 0, 1.0)
    for scale in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="scale must be positive and finite"):
            scanner.search(queries, 3, scale)
    for value in (np.nan, np.inf, -np.inf):
        broken = queries.copy()
        broken[2, 5] = value
        with pytest.raises(ValueError, match="query 2 is not finite"):
            scanner.search(broken, 3, 1.0)
    with pytest.raises(ValueError, match="allowed has 4 bytes, a catalog of 40 items takes 5"):
        scanner.search(queries, 3, 1.0, np.zeros(4, dtype=np.uint8))
    with pytest.raises(ValueError, match="allowed must be a C-contiguous uint8 vector"):
        scanner.search(queries, 3, 1.0, np.zeros(40, dtype=bool))
    ids = np.array([1, 2, 3, 2], dtype=np.int32)
    for offsets, reason in (
        ([0, 2, 3, 5], "must run from 0 to the number of excluded ids in 4 steps"),
        ([0, 2, 4], "must run from 0"),
        ([1, 2, 3, 4], "must run from 0"),
        ([0, 3, 2, 4], "fall at query 1"),
        ([0, 9, 9, 4], "fall at query 0"),
        ([0, 0, 0, 4], "the excluded ids of query 2 do not ascend"),
    ):
        with pytest.raises(ValueError, match=reason):
            scanner.search(queries, 3, 1.0, None, ids, np.array(offsets, dtype=np.int64))
    with pytest.raises(ValueError, match="pass both or none"):
        scanner.search(queries, 3, 1.0, None, ids)
    with pytest.raises(ValueError, match="there is no instruction set 'mmx'"):
        Scanner(catalog, quantize(catalog), "mmx")


def test_arrays_that_are_not_aligned_are_refused() -> None:
    catalog = normal(40, 12)
    scanner = Scanner(catalog, quantize(catalog))
    crooked = np.frombuffer(b"?" + catalog[:2].tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 12)
    assert crooked.tobytes() == catalog[:2].tobytes()
    assert not crooked.flags.aligned
    with pytest.raises(ValueError, match="queries must be a C-contiguous float32 matrix, aligned to its items"):
        scanner.search(crooked, 3, 1.0)
    with pytest.raises(ValueError, match="catalog must be a C-contiguous float32 matrix, aligned to its items"):
        quantize(crooked)


@pytest.mark.parametrize("exponent", [1e300, -(2.0**63), 256.0, -256.0, 0.5, np.nan, np.inf])
def test_exponents_that_make_no_sense_are_refused(exponent: float) -> None:
    catalog = normal(40, 12)
    codes = quantize(catalog)
    codes["summary"][3] = exponent
    with pytest.raises(ValueError, match=r"the quantized catalog has the exponent .*; quantize it again"):
        Scanner(catalog, codes)
