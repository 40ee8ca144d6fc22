"""The codes of the native scanner: whole, nested and requantized, their residuals; and what the scanner refuses."""

from __future__ import annotations

import numpy as np
import pytest

from mtaw_fast.kernels.native.scan import (
    Scanner,
    check_quantized,
    is_nested,
    nested,
    quantize,
    quantized_shapes,
    requantize,
    whole,
)
from tests.support.kernels.scan import check, normal, ring


@pytest.mark.parametrize("d", [1024, 4096])
def test_items_along_one_axis_have_nested_codes(d: int) -> None:
    """All other codes are zero, whose high halves are off by 8 each: large residuals, which are valid."""
    catalog = 1.99 * np.eye(20, d, dtype=np.float32)
    check(Scanner(catalog, quantize(catalog, nested=True)), catalog, normal(2, d), 5)


@pytest.mark.parametrize("name", ["blocks", "half_blocks"])
@pytest.mark.parametrize("d", [9, 15, 16])
def test_codes_are_within_their_residuals(name: str, d: int) -> None:
    """The layout's promise, in float64: row * 2^-exponent = step * code + at most residual."""
    catalog = np.concatenate([normal(70, d), ring(7, d, 1e-3) * np.float32(1e-20), np.zeros((2, d), np.float32)])
    in_two = name == "half_blocks"
    quantized = quantize(catalog, in_two)
    check_quantized(quantized, 79, d)
    assert {part: (a.dtype, a.shape) for part, a in quantized.items()} == quantized_shapes(79, d, in_two)
    assert all(quantized[part].ctypes.data % 64 == 0 for part in quantized if part != "summary")
    layout, n_items, width, exponent, norm, largest_residual, *rest = quantized["summary"]
    assert [layout, n_items, width, *rest] == [1, 79, d, 0, 0]
    scaled = catalog.astype(np.float64) * 2.0**-exponent
    norms = np.linalg.norm(scaled, axis=1)
    assert norms.max() <= norm <= norms.max() * (1 + 1e-8) < 1.0001
    stored = quantized[name][:, :-1].astype(np.int64)
    halves = 2 * np.stack([stored & 15, stored >> 4], axis=2).reshape(5, -1, 64) - 15
    lines = stored - 128 if name == "blocks" else halves
    codes = lines.reshape(5, -1, 16, 4).transpose(0, 2, 1, 3).reshape(80, -1)[:, :d]
    words = np.ascontiguousarray(quantized[name][:, -1]).view(np.uint32).reshape(80)
    steps = (words & 0xFFFF0000).view(np.float32).astype(np.float64)
    residuals = (words << 16).view(np.float32).astype(np.float64)
    assert np.abs(codes).max() == (127 if name == "blocks" else 15)
    assert residuals[79] == -np.inf
    errors = np.linalg.norm(scaled - steps[:79, None] * codes[:79], axis=1)
    assert (errors <= residuals[:79]).all()
    # That of a half-wide code is what the lower half holds, added to the code's own.
    share, least = (1.01, 1e-28) if name == "blocks" else (1.2, 1e-27)
    assert (residuals[:79] <= np.maximum(errors * share, least)).all()
    assert residuals[:79].max() <= largest_residual
    assert (residuals[:70] <= norms[:70] * (0.01 if name == "blocks" else 0.15)).all()


@pytest.mark.parametrize("d", [1, 7, 8, 9, 100, 128])
@pytest.mark.parametrize("n_items", [1, 16, 70])
def test_nested_codes_are_the_whole_ones_in_two_parts(n_items: int, d: int) -> None:
    catalog = normal(n_items, d)
    codes = quantize(catalog, nested=False)
    parts = nested(codes)
    direct = quantize(catalog, nested=True)
    assert list(parts) == ["half_blocks", "low_blocks", "summary"]
    assert is_nested(parts)
    assert not is_nested(codes)
    assert all(parts[name].tobytes() == direct[name].tobytes() for name in parts)
    assert nested(parts) is parts
    joined = whole(parts)
    assert joined["blocks"].tobytes() == codes["blocks"].tobytes()
    assert codes["summary"][5] < joined["summary"][5] == parts["summary"][5]
    Scanner(catalog, joined)
    # Item after item, with 4 bits of each code and the item's own step and residual.
    stored = codes["blocks"][:, :-1].reshape(len(joined["blocks"]), -1, 16, 4).transpose(0, 2, 1, 3)
    low = (stored & 15).reshape(len(stored) * 16, -1, 4)
    records = parts["low_blocks"].reshape(len(low), -1, 4)
    lines = low.shape[1]
    merged = np.stack([records[:, :-1] & 15, records[:, :-1] >> 4], axis=2).reshape(len(low), -1, 4)
    assert (merged[:, :lines] == low).all()
    assert not merged[:, lines:].any()
    assert records[:, -1].tobytes() == codes["blocks"][:, -1].tobytes()


def test_an_item_of_100_dimensions_takes_112_bytes_of_nested_codes() -> None:
    parts = quantize(normal(160, 100), nested=True)
    assert sum(array.nbytes for name, array in parts.items() if name != "summary") == 112 * 160
    assert quantize(normal(160, 100), nested=False)["blocks"].nbytes == 104 * 160


def changed(catalog: np.ndarray) -> dict[str, np.ndarray]:
    """Catalogs that another one becomes."""
    edited = catalog.copy()
    edited[[3, 47, 48, 331]] = normal(4, catalog.shape[1], seed=9)
    return {
        "as it was": catalog.copy(),
        "changed rows": edited,
        "more rows": np.concatenate([catalog, normal(5, catalog.shape[1], seed=8)]),
        "one more block": np.concatenate([catalog, normal(40, catalog.shape[1], seed=8)]),
        "fewer rows": catalog[:150].copy(),
        "shorter rows": np.concatenate([catalog * np.float32(1e-3), catalog]),
        "longer rows": np.concatenate([catalog, catalog[:3] * np.float32(1e3)]),
        "nothing": catalog[:0].copy(),
    }


@pytest.mark.parametrize("kind", list(changed(normal(333, 10))))
def test_requantized(kind: str) -> None:
    """Only what changed is quantized, and the answers are equal."""
    before = normal(333, 10)
    old = quantize(before)
    kept = {name: array.copy() for name, array in old.items()}
    catalog = changed(before)[kind]
    codes = requantize(catalog, before, old)
    check_quantized(codes, *catalog.shape)
    assert all(old[name].tobytes() == kept[name].tobytes() for name in old)
    if kind == "as it was":
        assert codes["blocks"].tobytes() == old["blocks"].tobytes()
        assert codes["summary"].tobytes() == old["summary"].tobytes()
    if kind == "changed rows":
        same = (codes["blocks"] == old["blocks"]).all(axis=(1, 2))
        assert np.flatnonzero(~same).tolist() == [0, 2, 3, 20]
    again = requantize(catalog, catalog, codes)
    for encoded in (codes, again):
        scanner = Scanner(catalog, encoded)
        for k in (1, 20, 400):
            check(scanner, catalog, normal(3, 10, seed=4), k)


def test_requantizing_what_does_not_fit_is_refused() -> None:
    catalog = normal(40, 6)
    codes = quantize(catalog)
    with pytest.raises(ValueError, match="the two catalogs differ in dimensions"):
        requantize(normal(40, 5), catalog, codes)
    with pytest.raises(ValueError, match=r"'blocks' .* must be uint8\[2, 3, 64\]"):
        requantize(catalog, catalog[:20], codes)
    with pytest.raises(ValueError, match="catalog must be a C-contiguous float32 matrix, not float64"):
        requantize(catalog.astype(np.float64), catalog, codes)
    broken = catalog.copy()
    broken[38, 1] = np.nan
    with pytest.raises(ValueError, match="item 38 of the catalog has a value that is not finite"):
        requantize(broken, catalog, codes)


def test_large_catalogs_are_nested() -> None:
    assert list(quantized_shapes(300_000, 100)) == ["blocks", "summary"]
    assert list(quantized_shapes(400_000, 100)) == ["half_blocks", "low_blocks", "summary"]
    assert not is_nested(quantize(normal(50, 4)))
    large = np.zeros((1 << 11, 1 << 14), dtype=np.float32)
    assert quantize(large)["half_blocks"].shape == (128, 2049, 64)


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
    summaries = [(0, 2), (4, np.nan), (4, -1), (4, 1e30), (5, np.inf)]
    summaries += [(3, exponent) for exponent in (0.5, np.nan, np.inf, 1e300, -(2.0**63), 256.0, -256.0)]
    for place, value in summaries:
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
