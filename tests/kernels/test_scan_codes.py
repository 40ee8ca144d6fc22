"""The codes of the native scanner: whole and nested ones, requantized, and their residuals."""

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
