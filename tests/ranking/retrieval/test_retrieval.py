"""Every index, and the merged lists of parts, against a float64 brute force, on catalogs that are hard for float32."""

from __future__ import annotations

import itertools
import logging
import re
import sys
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import BundleError, MissingPackageError, UsageError
from mtaw_fast.errors.install import install_command
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.ranking.retrieval import (
    EXACT_INDEXES,
    Index,
    IndexName,
    NativeIndex,
    NumpyIndex,
    make_index,
    numpy_index,
)
from mtaw_fast.ranking.retrieval.merging import Found, merged, ranges
from tests.support.ranking.catalogs import brute_force, same, unit_rows


def check(index: Index, queries: np.ndarray, catalog: np.ndarray, k: int, mask: np.ndarray | None = None) -> None:
    result = index.search(queries, k, None if mask is None else Filter(mask), scale=16.0)
    assert same(result, brute_force(queries, catalog, k, mask, 16.0))


def duplicates() -> np.ndarray:
    return unit_rows(40, 24)[np.random.default_rng(1).integers(0, 40, 3001)]


def near_ties() -> np.ndarray:
    """Return items that are a few float32 roundings from the same direction."""
    base = unit_rows(1, 100).astype(np.float64)
    noise = np.random.default_rng(2).standard_normal((2003, 100)) * 3e-8
    return (base + noise).astype(np.float32)


def opposed() -> np.ndarray:
    """Return items with large terms that cancel: the dot is small compared with its rounding errors."""
    half = unit_rows(1501, 50, seed=3)
    jitter = np.random.default_rng(4).standard_normal(half.shape) * 1e-7
    return np.concatenate([half, -half + jitter], axis=1).astype(np.float32) / np.float32(2**0.5)


def with_zeros() -> np.ndarray:
    rows = unit_rows(1003, 16, seed=5)
    rows[::3] = 0
    return rows


CATALOGS = {
    "random": lambda: unit_rows(5003, 100),
    "duplicates": duplicates,
    "near ties": near_ties,
    "opposed": opposed,
    "zero rows": with_zeros,
    "all equal": lambda: np.repeat(unit_rows(1, 32), 2500, axis=0),
    "all zero": lambda: np.zeros((700, 8), dtype=np.float32),
    "one item": lambda: unit_rows(1, 7),
    "few items": lambda: unit_rows(13, 7),
    "not of unit length": lambda: unit_rows(900, 10) * np.float32(37.5),
}


@pytest.mark.parametrize("name", EXACT_INDEXES)
class TestEveryIndex:
    """The contract of every index."""

    @pytest.fixture(autouse=True)
    def _needs(self, name: str) -> None:
        if name == "faiss-flat":
            pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")

    @pytest.mark.parametrize("kind", CATALOGS)
    @pytest.mark.parametrize("k", [1, 20, 400])
    def test_equals_brute_force(self, name: str, kind: str, k: int) -> None:
        catalog = CATALOGS[kind]()
        rng = np.random.default_rng(6)
        drawn = catalog[rng.integers(0, len(catalog), 3)]
        queries = np.concatenate([drawn, unit_rows(2, catalog.shape[1], seed=7), np.zeros_like(drawn[:1])])
        if kind == "opposed":
            queries[3:5] = normalized(np.tile(unit_rows(2, 50, seed=8), 2))
        index = make_index(name, catalog)
        check(index, queries, catalog, k)
        check(index, queries[:1], catalog, k)
        for share in (0.9, 0.3, 0.05):
            check(index, queries, catalog, k, rng.random(len(catalog)) < share)

    @settings(max_examples=40, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        n_items=st.integers(1, 300),
        d=st.integers(1, 9),
        k=st.integers(1, 320),
        levels=st.integers(1, 3),
        share=st.sampled_from([None, 1.0, 0.5, 0.02]),
    )
    def test_equals_brute_force_on_coarse_grids(
        self, name: str, seed: int, n_items: int, d: int, k: int, levels: int, share: float | None
    ) -> None:
        rng = np.random.default_rng(seed)
        catalog = normalized(rng.integers(-levels, levels + 1, (n_items, d)).astype(np.float32))
        queries = rng.integers(-levels, levels + 1, (3, d)).astype(np.float32)
        check(make_index(name, catalog), queries, catalog, k, None if share is None else rng.random(n_items) < share)

    def test_nothing_allowed_and_no_queries(self, name: str) -> None:
        catalog = unit_rows(50, 6)
        index = make_index(name, catalog)
        check(index, catalog[:2], catalog, 5, np.zeros(50, dtype=bool))
        ids, scores = index.search(catalog[:0], 5)
        assert (ids.shape, scores.shape) == ((0, 5), (0, 5))

    def test_chunks_do_not_show(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(numpy_index, "_CHUNK_SCORES", 4000)
        for catalog in (unit_rows(1501, 20), duplicates()):
            check(make_index(name, catalog), np.ascontiguousarray(catalog[:11]), catalog, 20)

    def test_a_score_does_not_depend_on_the_batch(self, name: str) -> None:
        catalog, queries = unit_rows(4001, 100), unit_rows(65, 100, seed=9)
        index = make_index(name, catalog)
        together = index.search(queries, 20, scale=16.0)
        for b in range(len(queries)):
            alone = index.search(queries[b : b + 1], 20, scale=16.0)
            assert [part[b].tobytes() for part in together] == [part[0].tobytes() for part in alone]

    def test_read_only_catalog_and_strided_queries(self, name: str) -> None:
        catalog = unit_rows(300, 10)
        catalog.flags.writeable = False
        check(make_index(name, catalog), catalog[::7], catalog, 9)

    def test_wrong_arguments_are_refused(self, name: str) -> None:
        catalog = unit_rows(30, 4)
        index = make_index(name, catalog)
        with pytest.raises(UsageError, match=r"queries must be float32\[B, 4\]"):
            index.search(catalog[:, :3], 5)
        with pytest.raises(UsageError, match=r"queries must be float32\[B, 4\], not float64"):
            index.search(catalog.astype(np.float64), 5)
        with pytest.raises(UsageError, match="k must be at least 1"):
            index.search(catalog, 0)
        with pytest.raises(UsageError, match="the filter is for a catalog of 31 items"):
            index.search(catalog, 5, Filter(np.ones(31, dtype=bool)))
        for value in (np.nan, np.inf):
            broken = catalog[:3].copy()
            broken[2, 1] = value
            with pytest.raises(UsageError, match="query 2 is not finite"):
                index.search(broken, 5)


def test_choice_of_index(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    catalog = unit_rows(10, 4)
    with pytest.raises(UsageError, match=f"no index 'hnsw'; choose one of {', '.join(get_args(IndexName))}"):
        make_index("hnsw", catalog)
    with caplog.at_level(logging.INFO, logger="mtaw_fast"):
        assert make_index("auto", catalog, quantize(catalog)).name == "native"
    assert [record.getMessage() for record in caplog.records] == ["index: native (auto)"]
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.delitem(sys.modules, "mtaw_fast.ranking.retrieval.faiss_flat", raising=False)
    with pytest.raises(MissingPackageError, match=re.escape(install_command("cpu"))):
        make_index("faiss-flat", catalog)


def test_faiss_flat_restores_the_openmp_setting_of_the_thread() -> None:
    faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(2)
        make_index("faiss-flat", unit_rows(50, 4)).search(unit_rows(2, 4), 3)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("other", [unit_rows(71, 4), -unit_rows(70, 4)], ids=["size", "values"])
def test_codes_of_another_catalog_are_refused(other: np.ndarray) -> None:
    with pytest.raises(BundleError, match="the bundle's quantized catalog does not fit it"):
        make_index("native", unit_rows(70, 4), quantize(other))


def found_in_parts(
    catalog: np.ndarray, edges: list[int], queries: np.ndarray, k: int, mask: np.ndarray | None
) -> list[tuple[int, Found]]:
    """Return the results of an index over each part, with the id of the part's first item; kinds of index alternate."""
    parts = []
    for place, (begin, end) in enumerate(itertools.pairwise(edges)):
        rows = catalog[begin:end]
        allowed = None if mask is None else Filter(mask[begin:end])
        index = NumpyIndex(rows) if place % 2 and end > begin else NativeIndex(np.ascontiguousarray(rows))
        parts.append((begin, index.search(queries, k, allowed, scale=16.0)))
    return parts


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, list[int], np.ndarray, int, np.ndarray | None]:
    """Draw a catalog of few distinct rows (many ties), cuts with some empty parts, queries, k and a filter."""
    n, d = draw(st.integers(1, 70)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    distinct = rng.normal(size=(draw(st.integers(1, 12)), d)).astype(np.float32)
    catalog = distinct[rng.integers(0, len(distinct), n)]
    cuts = draw(st.lists(st.integers(0, n), max_size=6))
    queries = rng.normal(size=(draw(st.integers(1, 3)), d)).astype(np.float32)
    share = draw(st.sampled_from([None, 0.0, 0.05, 0.5, 1.0]))
    return catalog, cuts, queries, draw(st.integers(1, 90)), None if share is None else rng.random(n) < share


@settings(max_examples=400, deadline=None)
@given(problems(), st.none() | st.integers(0, 6))
def test_merged_parts_are_the_whole(
    problem: tuple[np.ndarray, list[int], np.ndarray, int, np.ndarray | None], lost: int | None
) -> None:
    """If a part is lost, they are the whole without its items."""
    catalog, cuts, queries, k, mask = problem
    edges = [0, *sorted(cuts), len(catalog)]
    parts = found_in_parts(catalog, edges, queries, k, mask)
    if lost is not None:
        lost %= len(parts)
        mask = np.ones(len(catalog), dtype=bool) if mask is None else mask.copy()
        mask[edges[lost] : edges[lost + 1]] = False
        del parts[lost]
    assert same(merged(parts, len(queries), k), brute_force(queries, catalog, k, mask, 16.0))


def test_an_item_of_the_least_score_comes_before_padding() -> None:
    first = np.array([[-1, -1]], np.int32), np.array([[-np.inf, -np.inf]], np.float32)
    second = np.array([[0, -1]], np.int32), np.array([[-np.inf, -np.inf]], np.float32)
    assert merged([(0, first), (7, second)], 1, 3)[0].tolist() == [[7, -1, -1]]


def test_parts_may_bring_lists_of_different_lengths() -> None:
    first = np.array([[3]], np.int32), np.array([[1.0]], np.float32)
    second = np.array([[1, 0]], np.int32), np.array([[2.0, 1.0]], np.float32)
    ids, scores = merged([(10, second), (0, first)], 1, 3)  # in any order: a tie goes to the lower id
    assert (ids.tolist(), scores.tolist()) == ([[11, 3, 10]], [[2.0, 1.0, 1.0]])


@pytest.mark.parametrize("sizes", [[3, 0, 2], [0, 0], [5]])
def test_ranges_follow_each_other(sizes: list[int]) -> None:
    parts = ranges(sizes)
    assert [len(part) for part in parts] == sizes
    assert [item for part in parts for item in part] == list(range(sum(sizes)))
