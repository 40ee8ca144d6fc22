"""The ranker: its arithmetic, its file, and the order of candidates and of the dense items after them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError
from mtaw_fast.kernels.native import memory_query, rerank_topk
from mtaw_fast.kernels.native.memory_query import Dense
from mtaw_fast.memory import MemorySettings, MemoryTables, RankerNet
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors
from tests.memory.reference.candidates import QuerySettings
from tests.memory.reference.features import NAMES, features
from tests.native.builds import instruction_sets
from tests.support.memory.logs import random_log
from tests.support.memory.queries import Problem, ambiguous, logits_of, random_dense, random_ranker

ISAS = [isa for isa in instruction_sets() if isa in ("portable", "avx2", "avx512")]
N, ADDED = 120, 4
FEW = QuerySettings(own=5, others=15, dense=8)
RANKER = random_ranker(0)
TABLES = MemoryTables.build(random_log(300, N, 1), N, MemorySettings(max_neighbors=30))
PREFIXES = Sessions.from_lists([clicks for clicks in random_log(40, N + ADDED, 2, longest=20) if len(clicks)])
DENSE = random_dense(len(PREFIXES), N, N + ADDED, 3, n_added=ADDED)  # the whole catalog, as no index has to give it
PROBLEM = Problem(TABLES, FEW, N + ADDED, PREFIXES, DENSE)

# Features that an earlier ranker had after `second`.
OTHERS = ("knn", "knn_fresh", "knn_near", "knn_after", "knn_next")
REFUSED = r"its features are not this release's \('knn' is in only one of the lists\); retrain the bundle$"

Ranking = tuple[np.ndarray, np.ndarray]


def dense_of(width: int, allowed: np.ndarray | None = None, dropped: list[np.ndarray] | None = None) -> Dense:
    """Return the first `width` of each dense list, without excluded items."""
    ids = np.full((len(PREFIXES), width), -1, np.int32)
    logits = np.full((len(PREFIXES), width), -np.inf, np.float32)
    for row, (row_ids, values) in enumerate(zip(DENSE.ids, DENSE.logits, strict=True)):
        fine = np.ones(len(row_ids), bool) if allowed is None else allowed[row_ids]
        if dropped is not None:
            fine &= ~np.isin(row_ids, dropped[row])
        kept = np.flatnonzero(fine)[:width]
        ids[row, : len(kept)], logits[row, : len(kept)] = row_ids[kept], values[kept]
    return replace(DENSE, ids=ids, logits=logits)


def ranked(k: int, isa: str | None = None, ranker: RankerNet = RANKER, **conditions: Any) -> Ranking:
    dense = conditions.pop("dense", dense_of(max(k, FEW.dense)))
    return PROBLEM.memory(isa).rank(ranker.native(), *PROBLEM.ranges, k, dense, **conditions)


def packed(lists: list[np.ndarray]) -> dict[str, Any]:
    """Return the conditions `excluded` and `excluded_offsets`."""
    offsets = np.cumsum([0, *(len(ids) for ids in lists)])
    return {"excluded": np.concatenate(lists).astype(np.int32), "excluded_offsets": offsets}


@pytest.mark.parametrize("isa", ISAS)
def test_scores_are_those_of_the_reference(isa: str) -> None:
    ids, scores = ranked(60, isa)
    for row in range(len(PREFIXES)):
        reference_query = PROBLEM.reference(row)
        candidates = reference_query.candidates()
        by_id = dict(zip(ids[row].tolist(), scores[row].tolist(), strict=True))
        expected = RANKER.scores(features(reference_query, candidates))
        np.testing.assert_allclose([by_id[item] for item in candidates], expected, rtol=2e-5, atol=1e-4)


def test_order() -> None:
    """Return the order: candidates by score, ties by id; then dense items by logit, below the lowest score."""
    ids, scores = ranked(N + ADDED)
    for row in range(len(PREFIXES)):
        assert sorted(ids[row].tolist()) == list(range(N + ADDED))
        keys = [(-score, item) for score, item in zip(scores[row].tolist(), ids[row].tolist(), strict=True)]
        assert keys == sorted(keys)
        count = len(PROBLEM.reference(row).candidates())
        logits = logits_of(DENSE, row)
        tail, lowest = ids[row, count:], scores[row, count - 1]
        order = np.lexsort((tail, -logits[tail]))
        assert order.tolist() == list(range(len(tail)))
        expected = lowest - (np.float32(DENSE.scale) - logits[tail])
        np.testing.assert_allclose(scores[row, count:], expected, atol=1e-5)


def test_equal_logits_behind_the_candidates() -> None:
    """Items with the same vector have the same score; others differ."""
    catalog = DENSE.catalog.copy()
    catalog[50:90] = catalog[50]
    catalog[90:110] = np.nextafter(catalog[50], 1)
    dense = random_dense(len(PREFIXES), N, 8, 3, n_added=ADDED)
    everything = np.tile(np.arange(N + ADDED, dtype=np.int32), (len(PREFIXES), 1))
    rows = np.concatenate([catalog, dense.added])
    ids, logits = rerank_topk(dense.queries, rows, everything, N + ADDED, dense.scale)
    ids, scores = ranked(N + ADDED, dense=replace(dense, catalog=catalog, ids=ids, logits=logits))
    for row in range(len(PREFIXES)):
        keys = [(-score, item) for score, item in zip(scores[row].tolist(), ids[row].tolist(), strict=True)]
        assert keys == sorted(keys)


@pytest.mark.parametrize("k", [1, 5, 20, 59, 123])
def test_shorter_rankings_are_the_beginning_of_longer_ones(k: int) -> None:
    ids, scores = ranked(k)
    all_ids, all_scores = ranked(N + ADDED)
    assert ids.tobytes() == np.ascontiguousarray(all_ids[:, :k]).tobytes()
    assert scores.tobytes() == np.ascontiguousarray(all_scores[:, :k]).tobytes()


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 1), dropped=st.integers(0, 40), seed=st.integers(0, 1000), k=st.integers(1, 2 * N))
def test_what_may_not_be_found_takes_no_place(share: float, dropped: int, seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(N + ADDED) < share
    lists = [np.sort(rng.choice(N + ADDED, dropped, replace=False)).astype(np.int32) for _ in range(len(PREFIXES))]
    bits = np.packbits(mask, bitorder="little")
    dense = dense_of(max(k, FEW.dense), mask, lists)
    ids, scores = ranked(k, allowed=bits, dense=dense, **packed(lists))
    for row in range(0, len(PREFIXES), 4):
        fine = mask.copy()
        fine[lists[row]] = False
        count = min(k, int(fine.sum()))
        listed = ids[row, :count]
        assert fine[listed].all()
        assert len(set(listed.tolist())) == count
        assert (ids[row, count:] == -1).all()
        assert (scores[row, count:] == -np.inf).all()
        part = replace(PROBLEM.part(np.array([row])), dense=replace(
            DENSE, queries=DENSE.queries[[row]], ids=dense.ids[[row]], logits=dense.logits[[row]]))  # fmt: skip
        reference_query = part.reference(0)
        if not ambiguous(reference_query) - set(np.flatnonzero(~fine)):
            candidates = reference_query.candidates(lambda item, fine=fine: bool(fine[item]))
            assert set(listed[: len(candidates)].tolist()) <= set(candidates)


def test_ids_that_there_are_not_are_no_condition() -> None:
    unknown = [np.array([-5, N + ADDED, 2**31 - 1], np.int32)] * len(PREFIXES)
    assert same(ranked(30, **packed(unknown)), ranked(30))


class TestBits:
    @pytest.mark.parametrize("isa", ISAS)
    @pytest.mark.parametrize("units", [(24, 16), (64, 32), (8, 8), (256, 256)])
    def test_on_every_instruction_set(self, isa: str, units: tuple[int, int]) -> None:
        ranker = random_ranker(1, *units)
        assert same(ranked(40, isa, ranker), ranked(40, ISAS[0], ranker))

    @pytest.mark.parametrize("isa", ISAS)
    def test_where_sums_overflow(self, isa: str) -> None:
        units: dict[str, Any] = {"w1": RANKER.w1 * np.float32(1e6), "w2": RANKER.w2 * np.float32(1e34)}
        for large in (replace(RANKER, **units), replace(RANKER, **units, w3=np.abs(RANKER.w3))):
            scores = ranked(40, isa, large)[1]
            assert not np.isfinite(scores[:, 0]).all()
            assert same(ranked(40, isa, large), ranked(40, ISAS[-1], large))

    def test_alone_and_in_any_order(self) -> None:
        memory, native, dense = PROBLEM.memory(), RANKER.native(), dense_of(40)
        ids, scores = ranked(40)
        whole = replace(PROBLEM, dense=dense)
        order = np.random.default_rng(0).permutation(len(PREFIXES))
        for rows in (*np.arange(len(PREFIXES))[:, None], order):
            part = whole.part(rows)
            for threads in (1, 3):
                assert same(
                    memory.rank(native, *part.ranges, 40, part.dense, threads=threads), (ids[rows], scores[rows])
                )


def same(one: Ranking, other: Ranking) -> bool:
    return one[0].tobytes() == other[0].tobytes() and one[1].tobytes() == other[1].tobytes()


def test_without_a_neural_part() -> None:
    """Only candidates, with dense features 0; a memory without dense items gives the same."""
    plain = replace(PROBLEM, dense=None)
    ids, scores = plain.memory().rank(RANKER.native(), *plain.ranges, 60)
    for row in range(len(PREFIXES)):
        reference_query = plain.reference(row)
        candidates = reference_query.candidates()
        by_id = dict(zip(ids[row].tolist(), scores[row].tolist(), strict=True))
        assert set(by_id) - {-1} == set(candidates)
        expected = RANKER.scores(features(reference_query, candidates))
        np.testing.assert_allclose([by_id[item] for item in candidates], expected, rtol=2e-5, atol=1e-4)
    no_dense = replace(PROBLEM, settings=replace(FEW, dense=0))
    filled = no_dense.memory().rank(RANKER.native(), *no_dense.ranges, 60, dense_of(60))
    for row in range(len(PREFIXES)):
        count = int((ids[row] >= 0).sum())
        assert filled[0][row, :count].tobytes() == ids[row, :count].tobytes()
        assert filled[1][row, :count].tobytes() == scores[row, :count].tobytes()
        assert (filled[0][row] >= 0).all()


def test_file(tmp_path: Path) -> None:
    RANKER.save(tmp_path / "ranker.safetensors")
    loaded = RankerNet.load(tmp_path / "ranker.safetensors")
    assert loaded.features == RANKER.features
    for name, array in RANKER.arrays().items():
        assert loaded.arrays()[name].tobytes() == array.tobytes()
    assert same(ranked(20, ranker=loaded), ranked(20))


def others_among(names: tuple[str, ...]) -> np.ndarray:
    """Return the array of the feature names in a file, with OTHERS among them."""
    begin = names.index("second") + 1
    return np.frombuffer("\n".join([*names[:begin], *OTHERS, *names[begin:]]).encode(), np.uint8)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mean": np.zeros(3, np.float32)}, r"mean must be float32\[\d+\], not float32\[3\]"),
        ({"b2": np.zeros(7, np.float32)}, r"w2 must be float32\[24, 7\]"),
        ({"bias": np.zeros(1)}, r"bias must be float32\[1\], not float64\[1\]"),
        ({"w3": np.full(16, np.nan, np.float32)}, "w3 has a value that is not finite"),
        ({"features": np.frombuffer(b"length\nmagic", np.uint8)}, "features are not this release's"),
        ({"features": np.frombuffer("\n".join(NAMES[::-1]).encode(), np.uint8)}, "the order differs"),
        ({"features": others_among(NAMES)}, REFUSED),
        ({"features": others_among(memory_query.feature_names(trends=True))}, REFUSED),
    ],
)
def test_damaged_file(tmp_path: Path, change: dict[str, np.ndarray], reason: str) -> None:
    path = tmp_path / "ranker.safetensors"
    RANKER.save(path)
    write_tensors(path, map_tensors(path) | change)
    with pytest.raises(DataError, match=reason) as caught:
        RankerNet.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("units", [(12, 8), (8, 12), (0, 8), (264, 8)])
def test_units_that_do_not_fit(units: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="hidden units, not a multiple of 8 up to 256"):
        random_ranker(0, *units)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mean": np.zeros(3, np.float32)}, "scale must have 3 entries on axis 0, not 42"),
        ({"b1": np.zeros(12, np.float32)}, "w1 must have 12 entries on axis 1, not 24"),
        ({"w2": np.zeros((24, 16))}, "w2 must be a C-contiguous float32 matrix, not float64"),
        ({"w2": [1.0]}, "'w2' must be an array"),
    ],
)
def test_native_checks(change: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        memory_query.NativeRankerNet(RANKER.arrays() | change)
