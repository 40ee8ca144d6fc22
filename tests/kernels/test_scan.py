"""The native scanner against brute force, on every instruction set, and what it promises about its codes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.kernels.native.scan import (
    Scanner,
    nested,
    quantize,
    read_bytes,
)
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors
from tests.support.kernels.scan import check, normal, ring

ISAS = ("portable", "neon", "avx2", "avx512", "vnni", "amx")


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    try:
        read_bytes(np.zeros(1, dtype=np.uint8), request.param)
    except ValueError as error:
        pytest.skip(str(error))
    return request.param


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
        for part in (queries[6:8], queries[[0, 8, 1]], queries[3:]):  # a kernel of their own each
            check(scanner, catalog, part, k)
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


def test_a_small_search_after_a_large_one(isa: str) -> None:
    catalog = normal(3001, 12)
    scanner = Scanner(catalog, quantize(catalog), isa)
    for n_queries, k in ((30, 3000), (1, 1), (300, 2), (1, 3001)):
        check(scanner, catalog, normal(n_queries, 12, seed=n_queries), k)


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
    result, _ = scanner.search(catalog[:1], 20, 1.0, None, ids, np.array([0, 7], dtype=np.int64))
    assert sorted(result[0].tolist()) == sorted([*set(range(20)) - {2, 19}, -1, -1])


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
