"""The native scanner against brute force, on every instruction set, and what it promises about its codes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.kernels.native import reference
from mtaw_fast.kernels.native.scan import (
    Scanner,
    check_quantized,
    is_nested,
    multiply_codes,
    nested,
    quantize,
    quantized_shapes,
    read_bytes,
    requantize,
    whole,
)
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors

ISAS = ("portable", "neon", "avx2", "avx512", "vnni", "amx")


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    try:
        read_bytes(np.zeros(1, dtype=np.uint8), request.param)
    except ValueError as error:
        pytest.skip(str(error))
    return request.param


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def brute_force(
    queries: np.ndarray,
    catalog: np.ndarray,
    k: int,
    scale: float,
    mask: np.ndarray | None = None,
    excluded: list[np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    candidates = np.tile(np.arange(len(catalog), dtype=np.int32), (len(queries), 1))
    if mask is not None:
        candidates[:, ~mask] = -1
    for row, ids in zip(candidates, excluded or [], strict=False):
        row[ids] = -1
    return reference.rerank_topk(queries, catalog, candidates, k, scale)


def check(
    scanner: Scanner,
    catalog: np.ndarray,
    queries: np.ndarray,
    k: int,
    scale: float = 16.0,
    mask: np.ndarray | None = None,
    excluded: list[np.ndarray] | None = None,
) -> None:
    bits = None if mask is None else np.packbits(mask, bitorder="little")
    lists = () if excluded is None else packed(excluded)
    found = scanner.search(queries, k, scale, bits, *lists)
    expected = brute_force(queries, catalog, k, scale, mask, excluded)
    for got, wanted in zip(found, expected, strict=True):
        assert got.dtype == wanted.dtype
        assert got.tobytes() == wanted.tobytes()


def packed(lists: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    return np.concatenate([np.empty(0, np.int32), *map(np.sort, lists)]).astype(np.int32), offsets


def ring(n: int, d: int, jitter: float) -> np.ndarray:
    """One direction, moved by `jitter`: under the codes' resolution for small ones."""
    base = normal(1, d, seed=3).astype(np.float64)
    return (base * (1 + jitter * np.random.default_rng(4).standard_normal((n, d)))).astype(np.float32)


CATALOGS = {
    "random": lambda: normal(5003, 100),
    "many dimensions": lambda: normal(300, 1025),
    "duplicates": lambda: normal(40, 24)[np.random.default_rng(1).integers(0, 40, 6001)],
    "ties within the codes": lambda: ring(5001, 40, 1e-3),
    "near ties": lambda: ring(6007, 40, 1e-7),
    "norms over ten decades": lambda: normal(5001, 26) * (10.0 ** normal(5001, 1, seed=5) * 2).astype(np.float32),
    "norms over all of float32": lambda: (
        normal(400, 7).astype(np.float64) * 10.0 ** np.linspace(-44, 37, 400)[::-1, None]
    ).astype(np.float32),
    "zero rows": lambda: normal(1003, 16) * (np.arange(1003) % 3 > 0)[:, None].astype(np.float32),
    "all zero": lambda: np.zeros((700, 8), dtype=np.float32),
    "all equal": lambda: np.full((5003, 10), 0.25, dtype=np.float32),
    "denormal": lambda: normal(300, 8) * np.float32(1e-41),
    "huge": lambda: normal(300, 8) * np.float32(5e37),
    "one item": lambda: normal(1, 7),
    "fifteen items": lambda: normal(15, 4),
    "sixteen items": lambda: normal(16, 1),
}


@pytest.mark.parametrize("in_two", [False, True])
@pytest.mark.parametrize("kind", CATALOGS)
def test_equals_brute_force(isa: str, kind: str, in_two: bool) -> None:
    catalog = CATALOGS[kind]()
    n_items, d = catalog.shape
    scanner = Scanner(catalog, quantize(catalog, in_two), isa)
    rng = np.random.default_rng(6)
    queries = np.concatenate([normal(8, d, seed=7), catalog[rng.integers(0, n_items, 2)], np.zeros((1, d), np.float32)])
    queries[1] *= np.float32(1e-41)
    queries[2] *= np.float32(1e36)
    for k in (1, 20, min(n_items, 600), n_items + 2 if n_items < 50 else 33):
        check(scanner, catalog, queries, k)
        for few in (queries[6:8], queries[[0, 8, 1]], queries[3:]):  # a kernel of their own each
            check(scanner, catalog, few, k)
        for query in queries[[0, 1, 2, 8, 10]]:
            check(scanner, catalog, query[None], k)
        check(scanner, catalog, queries[9:], k, scale=1e-30)
        for share in (0.9, 0.3, 0.01):
            check(scanner, catalog, queries[:1] if in_two else queries, k, mask=rng.random(n_items) < share)
        seen = [rng.choice(n_items, min(n_items, 3 * b), replace=False) for b in range(len(queries))]
        if not in_two:
            check(scanner, catalog, queries, k, excluded=seen)
        check(scanner, catalog, queries[5:6], k, mask=rng.random(n_items) < 0.8, excluded=seen[5:6])


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_items=st.integers(1, 400),
    d=st.integers(1, 13),
    n_queries=st.integers(1, 20),
    k=st.integers(1, 420),
    levels=st.sampled_from([1, 2, 1000]),
    decades=st.integers(0, 12),
    scale=st.sampled_from([1e-40, 1.0, 16.0, 1e38]),
    share=st.sampled_from([None, 0.5, 0.02, 0.0]),
)
def test_equals_brute_force_on_drawn_catalogs(
    seed: int,
    n_items: int,
    d: int,
    n_queries: int,
    k: int,
    levels: int,
    decades: int,
    scale: float,
    share: float | None,
) -> None:
    rng = np.random.default_rng(seed)
    sizes = 10.0 ** rng.uniform(-decades, 0, (n_items, 1))
    catalog = (rng.integers(-levels, levels + 1, (n_items, d)) * sizes).astype(np.float32)
    queries = rng.integers(-levels, levels + 1, (n_queries, d)).astype(np.float32)
    mask = None if share is None else rng.random(n_items) < share
    excluded = [rng.integers(0, n_items, rng.integers(0, 5)).astype(np.int32) for _ in queries]
    quantized = quantize(catalog)
    for isa in ("portable", None):
        for codes in (quantized, nested(quantized)):
            check(Scanner(catalog, codes, isa), catalog, queries, k, scale, mask, excluded)


@pytest.mark.parametrize("in_two", [False, True])
def test_the_best_items_come_last(isa: str, in_two: bool) -> None:
    """Scores that rise along the catalog: every item passes the running threshold."""
    direction = normal(1, 32)
    catalog = (direction * np.linspace(0.5, 1, 9001)[:, None]).astype(np.float32)
    scanner = Scanner(catalog, quantize(catalog, in_two), isa)
    for queries in (direction, -direction, np.tile(direction, (9, 1))):
        check(scanner, catalog, queries, 20)


@pytest.mark.parametrize("d", [3, 13, 61, 64, 100, 117, 123, 128, 260])
def test_batches_equal_brute_force(isa: str, d: int) -> None:
    """Batches that fill a group of lanes and do not, over every way in which a block's lines fill tiles."""
    rng = np.random.default_rng(d)
    catalog = normal(2607, d, seed=d) * (10.0 ** rng.uniform(-3, 0, (2607, 1))).astype(np.float32)
    catalog[::97] = 0
    catalog[5::97] *= np.float32(1e-30)
    catalog[:, 0] *= np.where(rng.random(2607) < 0.1, np.float32(40), np.float32(1))  # some steps are far above others
    codes = quantize(catalog)
    queries = np.concatenate([normal(68, d, seed=1), catalog[100:104], np.zeros((1, d), np.float32)])
    whole_codes, in_two = Scanner(catalog, codes, isa), Scanner(catalog, nested(codes), isa)
    for scanner, count, k in ((whole_codes, 73, 20), (whole_codes, 34, 2400), (whole_codes, 17, 1), (in_two, 73, 20)):
        check(scanner, catalog, queries[:count], k)
    check(whole_codes, catalog, queries[-20:], 20, mask=rng.random(2607) < 0.2)
    check(in_two, catalog, queries[-9:], 20, mask=rng.random(2607) < 0.2)


@pytest.mark.parametrize("d", [1, 7, 100, 128])
def test_few_items_under_nested_codes(isa: str, d: int) -> None:
    for n_items in [*range(1, 71, 6), 16, 32, 48]:
        catalog = normal(n_items, d, seed=n_items)
        catalog[::5] = 0
        catalog[1::9] = catalog[0]
        scanner = Scanner(catalog, quantize(catalog, nested=True), isa)
        queries = normal(17, d, seed=d)
        for count in (1, 2, 5, 17):
            check(scanner, catalog, queries[:count], 20)


@pytest.mark.parametrize("d", [1024, 4096])
def test_items_along_one_axis_have_nested_codes(d: int) -> None:
    """All other codes are zero, whose high halves are off by 8 each: large residuals, which are valid."""
    catalog = 1.99 * np.eye(20, d, dtype=np.float32)
    check(Scanner(catalog, quantize(catalog, nested=True)), catalog, normal(2, d), 5)


def test_products_of_codes_need_whole_groups(isa: str) -> None:
    blocks = quantize(normal(50, 9))["blocks"]
    if isa in ("vnni", "amx"):
        assert isinstance(multiply_codes(np.ones((64, 12), np.int8), blocks, isa), int)
    else:
        with pytest.raises(ValueError, match="for vnni and amx"):
            multiply_codes(np.ones((64, 12), np.int8), blocks, isa)
    with pytest.raises(ValueError, match="a multiple of 32 queries, not 20"):
        multiply_codes(np.ones((20, 12), np.int8), blocks, isa)
    with pytest.raises(ValueError, match=r"codes must be int8\[B, 4 L\]"):
        multiply_codes(np.ones((32, 9), np.int8), blocks, isa)


def test_a_small_search_after_a_large_one(isa: str) -> None:
    catalog = normal(3001, 12)
    scanner = Scanner(catalog, quantize(catalog), isa)
    for n_queries, k in ((30, 3000), (1, 1), (300, 2), (1, 3001)):
        check(scanner, catalog, normal(n_queries, 12, seed=n_queries), k)


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
    off = np.linalg.norm(scaled - steps[:79, None] * codes[:79], axis=1)
    assert (off <= residuals[:79]).all()
    # That of a half-wide code is what the lower half holds, added to the code's own.
    share, least = (1.01, 1e-28) if name == "blocks" else (1.2, 1e-27)
    assert (residuals[:79] <= np.maximum(off * share, least)).all()
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
    both = np.stack([records[:, :-1] & 15, records[:, :-1] >> 4], axis=2).reshape(len(low), -1, 4)
    assert (both[:, :lines] == low).all()
    assert not both[:, lines:].any()
    assert records[:, -1].tobytes() == codes["blocks"][:, -1].tobytes()


def test_an_item_of_100_dimensions_takes_112_bytes_of_nested_codes() -> None:
    parts = quantize(normal(160, 100), nested=True)
    assert sum(array.nbytes for name, array in parts.items() if name != "summary") == 112 * 160
    assert quantize(normal(160, 100), nested=False)["blocks"].nbytes == 104 * 160


def test_codes_of_earlier_releases_were_whole_with_a_copy_of_the_high_halves() -> None:
    catalog = normal(50, 9)
    codes = nested(quantize(catalog))
    old = {**whole(codes), "half_blocks": codes["half_blocks"]}
    check_quantized(old, 50, 9)
    check(Scanner(catalog, old), catalog, normal(2, 9, seed=1), 5)
    assert list(whole(old)) == ["blocks", "summary"]
    assert {name: array.tobytes() for name, array in nested(old).items()} == {
        name: array.tobytes() for name, array in codes.items()
    }


@pytest.mark.parametrize("n_queries", [1, 2, 3])
def test_few_queries_with_filters_that_fill_up_apart(isa: str, n_queries: int) -> None:
    """A lane that is full stops the pass for all of them; each continues where it was."""
    direction = normal(1, 32)
    catalog = (direction * np.linspace(0.5, 1, 6001)[:, None]).astype(np.float32)
    queries = np.concatenate([direction, normal(1, 32, seed=2), -direction])[:n_queries]
    mask = np.random.default_rng(3).random(6001) < 0.7
    seen = [np.arange(6001 - 40 * b, 6001, 3, dtype=np.int32) for b in range(1, n_queries + 1)]
    for in_two in (False, True):
        scanner = Scanner(catalog, quantize(catalog, in_two), isa)
        check(scanner, catalog, queries, 20, mask=mask)
        check(scanner, catalog, queries, 700, excluded=seen)


def changed(catalog: np.ndarray) -> dict[str, np.ndarray]:
    """Catalogs that another one becomes."""
    some = catalog.copy()
    some[[3, 47, 48, 331]] = normal(4, catalog.shape[1], seed=9)
    return {
        "as it was": catalog.copy(),
        "changed rows": some,
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
    for made in (codes, again):
        scanner = Scanner(catalog, made)
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


def test_codes_from_a_file_and_off_the_cache_lines(isa: str, tmp_path: Path) -> None:
    catalog, queries = normal(1000, 10), normal(17, 10, seed=1)
    for quantized in (quantize(catalog), quantize(catalog, nested=True)):
        write_tensors(tmp_path / "codes.safetensors", quantized)
        stored = map_tensors(tmp_path / "codes.safetensors")
        moved = dict(quantized)
        for name in quantized:
            moved[name] = np.empty(quantized[name].nbytes + 1, dtype=np.uint8)[1:].view(quantized[name].dtype)
            moved[name] = moved[name].reshape(quantized[name].shape)
            moved[name][:] = quantized[name]
        for codes in (stored, {**moved, "summary": quantized["summary"]}):
            check(Scanner(catalog, codes, isa), catalog, queries[:2], 9)
            check(Scanner(catalog, codes, isa), catalog, queries, 9)


def test_excluded_items_leave_fewer_than_k() -> None:
    catalog = normal(20, 4)
    scanner = Scanner(catalog, quantize(catalog))
    check(scanner, catalog, catalog[:1], 20, excluded=[np.arange(5, dtype=np.int32)])
    check(scanner, catalog, catalog[:1], 5, excluded=[np.arange(20, dtype=np.int32)])
    # Ids outside the catalog exclude nothing; repeated ones count once.
    ids = np.array([-3, 2, 2, 2, 19, 19, 700], dtype=np.int32)
    found, _ = scanner.search(catalog[:1], 20, 1.0, None, ids, np.array([0, 7], dtype=np.int64))
    assert sorted(found[0].tolist()) == sorted([*set(range(20)) - {2, 19}, -1, -1])


def test_threads_share_a_scanner() -> None:
    catalog, queries = normal(4000, 20), normal(40, 20, seed=1)
    scanner = Scanner(catalog, quantize(catalog))
    expected = [scanner.search(queries[b : b + 1], 10, 1.0)[0].tobytes() for b in range(40)]
    wrong: list[int] = []

    def run(offset: int) -> None:
        for step in range(200):
            b = (offset + step) % 40
            if scanner.search(queries[b : b + 1], 10, 1.0)[0].tobytes() != expected[b]:
                wrong.append(b)

    threads = [threading.Thread(target=run, args=(5 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_searches_on() -> None:
    catalog = normal(2000, 12)
    scanner = Scanner(catalog, quantize(catalog))
    before = scanner.search(catalog[:3], 7, 1.0)[0].tobytes()
    child = os.fork()
    if child == 0:
        os._exit(0 if scanner.search(catalog[:3], 7, 1.0)[0].tobytes() == before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("size", [0, 1, 7, 8, 255, 256, 257, 5000])
def test_read_bytes_sums_whole_words(isa: str, size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size).astype(np.uint8)
    words = data[: size // 8 * 8].view("<u8")
    assert read_bytes(data, isa) == sum(words.tolist()) % 2**64


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


@pytest.mark.parametrize("n_items", [1, 9, 40, 403, 2001])
def test_filter_bits_past_the_last_item_say_nothing(isa: str, n_items: int) -> None:
    """Few allowed items are listed one by one: none may come from the last byte's spare bits."""
    catalog = normal(n_items, 12)
    scanner = Scanner(catalog, quantize(catalog), isa)
    spare = np.zeros((n_items + 7) // 8, np.uint8)
    spare[-1] = 0xFF << (n_items % 8) & 0xFF if n_items % 8 else 0
    assert (scanner.search(catalog[:2], 5, 1.0, spare)[0] == -1).all()
    ids, scores = scanner.search(catalog[:2], 5, 1.0, spare | np.eye(1, len(spare), dtype=np.uint8)[0])
    assert ids[:, 0].tolist() == [0, 0][: len(ids)]
    assert (ids[:, 1:] == -1).all()
    assert np.isneginf(scores[:, 1:]).all()


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


def test_a_scale_whose_inverse_is_no_number_loses_no_item(isa: str) -> None:
    catalog = np.full((16, 101), 1e-38, dtype=np.float32)
    scanner = Scanner(catalog, quantize(catalog), isa)
    ids, _ = scanner.search(np.full((1, 101), 1e-38, dtype=np.float32), 2, 1e-300)
    assert ids.tolist() == [[0, 1]]


def test_no_items(isa: str) -> None:
    catalog = np.zeros((0, 8), dtype=np.float32)
    ids, scores = Scanner(catalog, quantize(catalog), isa).search(np.ones((2, 8), dtype=np.float32), 3, 1.0)
    assert ids.tolist() == [[-1] * 3] * 2
    assert np.isneginf(scores).all()
