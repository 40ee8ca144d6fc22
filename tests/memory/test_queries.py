"""Native candidates and features equal the plain reference, in any batch, order and instruction set."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.memory_query import SessionMemory, feature_names
from mtaw_fast.memory import MemorySettings, MemoryTables
from tests.memory.reference.candidates import QuerySettings
from tests.memory.reference.features import NAMES, features
from tests.native.builds import instruction_sets
from tests.support.memory.logs import N_ITEMS, SESSIONS, SETTINGS, random_log
from tests.support.memory.queries import Problem, ambiguous, random_dense

RTOL, ATOL = 3e-6, 8e-6  # of float32 sums and logarithms against float64 ones
FEW = QuerySettings(own=4, others=12, dense=6)
ISAS = [isa for isa in instruction_sets() if isa in ("portable", "avx2", "avx512")]

clicks = st.lists(st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=9), min_size=1, max_size=4)
few = st.builds(QuerySettings, own=st.integers(1, 5), others=st.integers(1, 6), dense=st.integers(1, 4))


def assert_as_reference(problem: Problem, isa: str | None = None) -> None:
    ids, values = problem.memory(isa).features(*problem.ranges, problem.dense)
    for row in range(len(problem.sessions)):
        found_query = problem.reference(row)
        expected = found_query.candidates()
        listed = [item for item in ids[row].tolist() if item >= 0]
        assert len(set(listed)) == len(listed) == len(expected)
        assert set(listed) ^ set(expected) <= ambiguous(found_query)
        assert not values[row, len(listed) :].any()
        assert (ids[row, len(listed) :] == -1).all()
        rows = features(found_query, listed)
        np.testing.assert_allclose(values[row, : len(listed)], rows, rtol=RTOL, atol=ATOL)


@settings(max_examples=60, deadline=None)
@given(log=SESSIONS, chosen=SETTINGS, prefixes=clicks, few=few, seed=st.integers(0, 99), neural=st.booleans())
def test_random_logs(
    log: Sessions, chosen: MemorySettings, prefixes: list[list[int]], few: QuerySettings, seed: int, neural: bool
) -> None:
    tables = MemoryTables.build(log, N_ITEMS, chosen)
    sessions = Sessions.from_lists(prefixes)
    dense = random_dense(len(sessions), N_ITEMS, min(few.dense, N_ITEMS), seed) if neural else None
    assert_as_reference(Problem(tables, few, N_ITEMS, sessions, dense))


def large_problem(seed: int = 1, few: QuerySettings = FEW) -> Problem:
    log = random_log(400, 150, seed)
    prefixes = [session for session in random_log(60, 150, seed + 1, longest=25) if len(session)]
    dense = random_dense(len(prefixes), 150, few.dense, seed)
    tables = MemoryTables.build(log, 150, MemorySettings(max_neighbors=40, max_postings=30))
    return Problem(tables, few, 150, Sessions.from_lists(prefixes), dense)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("few", [FEW, QuerySettings()], ids=["few", "many"])
def test_larger_logs(isa: str, few: QuerySettings) -> None:
    assert_as_reference(large_problem(3, few).part(np.arange(12)), isa)


@pytest.mark.parametrize("sessions", [[[3]], [[3] * 512], [[3] * 600], [list(range(60)) * 10], [[149], [0, 149]]])
def test_odd_sessions(sessions: list[list[int]]) -> None:
    """One click; one item only; more clicks and items than count; an item without neighbors."""
    log = Sessions.from_lists([[3, 5, 3], [149], [5, 6, 7, 3], list(range(40))])
    tables = MemoryTables.build(log, 150, MemorySettings())
    prefixes = Sessions.from_lists(sessions)
    for dense in (None, random_dense(len(prefixes), 150, 100, 5)):
        assert_as_reference(Problem(tables, QuerySettings(), 150, prefixes, dense))


@pytest.mark.parametrize(("log", "n_items"), [([], 9), ([[]], 9), ([[], []], 9), ([[]], 0)])
def test_empty_tables(log: list[list[int]], n_items: int) -> None:
    tables = MemoryTables.build(Sessions.from_lists(log), n_items, MemorySettings())
    prefixes = Sessions.from_lists([[3, 4], [8]])
    for dense in (None, random_dense(2, 9, 4, 5)):
        assert_as_reference(Problem(tables, QuerySettings(dense=4), 9, prefixes, dense))


@pytest.mark.parametrize("isa", ISAS)
def test_an_old_session_like_a_click_of_long_ago(isa: str) -> None:
    """Its weight times its freshness is below float32's normal numbers: the reciprocal would be infinite."""
    tables = MemoryTables.build(Sessions.from_lists([[3, 5], *[[7, 8]] * 100]), 150, MemorySettings())
    prefixes = Sessions.from_lists([[3] + [149] * 250])
    assert_as_reference(Problem(tables, QuerySettings(), 150, prefixes, None), isa)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return large_problem()


@pytest.fixture(scope="module")
def expected(problem: Problem) -> tuple[bytes, bytes]:
    ids, values = problem.memory().features(*problem.ranges, problem.dense)
    return ids.tobytes(), values.tobytes()


class TestBits:
    """A row depends only on its prefix and the tables."""

    @pytest.mark.parametrize("isa", ISAS)
    def test_on_every_instruction_set(self, problem: Problem, expected: tuple[bytes, bytes], isa: str) -> None:
        ids, values = problem.memory(isa).features(*problem.ranges, problem.dense)
        assert (ids.tobytes(), values.tobytes()) == expected

    @pytest.mark.parametrize("threads", [2, 5, 100])
    def test_on_threads(self, problem: Problem, expected: tuple[bytes, bytes], threads: int) -> None:
        ids, values = problem.memory().features(*problem.ranges, problem.dense, threads=threads)
        assert (ids.tobytes(), values.tobytes()) == expected

    def test_alone_and_in_any_order(self, problem: Problem, expected: tuple[bytes, bytes]) -> None:
        memory = problem.memory()
        order = np.random.default_rng(0).permutation(len(problem.sessions))
        for rows in (*np.arange(len(order))[:, None], order):
            part = problem.part(rows)
            ids, values = memory.features(*part.ranges, part.dense)
            whole_ids = np.frombuffer(expected[0], np.int32).reshape(len(order), -1)
            whole_values = np.frombuffer(expected[1], np.float32).reshape(len(order), -1, len(NAMES))
            assert ids.tobytes() == whole_ids[rows].tobytes()
            assert values.tobytes() == whole_values[rows].tobytes()

    def test_together_with_another_memory(self, problem: Problem, expected: tuple[bytes, bytes]) -> None:
        """One thread's working memory serves memories of any size and is clean after each query."""
        memory = problem.memory()
        prefixes = Sessions.from_lists([session for session in random_log(20, 900, 3) if len(session)])
        larger = Problem(MemoryTables.build(random_log(900, 900, 2), 900), QuerySettings(), 900, prefixes, None)
        for other in (large_problem(7, QuerySettings()), larger):
            other.memory().features(*other.ranges, other.dense)
            ids, values = memory.features(*problem.ranges, problem.dense)
            assert (ids.tobytes(), values.tobytes()) == expected


ONE = (np.array([1, 2], np.int32), np.array([0]), np.array([2]))


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        ((np.array([1], np.int64), *ONE[1:]), ValueError, "items must be a C-contiguous int32 vector, not int64"),
        ((ONE[0], np.array([0, 0]), np.array([2])), ValueError, "begins and ends must be pairs"),
        ((ONE[0], np.array([0]), np.array([3])), ValueError, "begins and ends must be pairs"),
        ((ONE[0], np.array([-1]), np.array([2])), ValueError, "begins and ends must be pairs"),
        ((ONE[0], np.array([1]), np.array([1])), ValueError, "begins and ends must be pairs"),
        ((np.array([1, 9], np.int32), *ONE[1:]), IndexError, "click 1 has internal item id 9, outside 0..8"),
        ((np.array([-1, 2], np.int32), *ONE[1:]), IndexError, "click 0 has internal item id -1, outside 0..8"),
    ],
)
def test_misuse(arguments: tuple[Any, ...], error: type[Exception], reason: str) -> None:
    tables = MemoryTables.build(Sessions.from_lists([[1, 2, 3]]), 9)
    memory = SessionMemory(tables.arrays(), 1.0, 9)
    with pytest.raises(error, match=reason):
        memory.features(*arguments)
    memory.features(*ONE)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"queries": np.zeros((2, 8), np.float32)}, "do not fit together"),
        ({"queries": np.zeros((1, 7), np.float32)}, "do not fit together"),
        ({"logits": np.zeros((1, 3), np.float32)}, "do not fit together"),
        ({"ids": np.zeros((1, 4), np.int64)}, "dense must be a C-contiguous int32 matrix, not int64"),
        ({"catalog": np.zeros((8, 8), np.float32)}, "there are vectors of 8 items, not of 9"),
        ({"ids": np.array([[0, 1, 2, 9]], np.int32)}, r"a dense item \w+ outside -1\.\.8"),
    ],
)
def test_dense_misuse(changes: dict[str, Any], reason: str) -> None:
    tables = MemoryTables.build(Sessions.from_lists([[1, 2, 3]]), 9)
    memory = SessionMemory(tables.arrays(), 1.0, 9)
    dense = replace(random_dense(1, 9, 4, 0), **changes)
    with pytest.raises((ValueError, IndexError), match=reason):
        memory.features(*ONE, dense)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"settings": QuerySettings(own=0)}, r"setting own must be in 1\.\.64, not 0"),
        ({"settings": QuerySettings(own=65)}, r"setting own must be in 1\.\.64, not 65"),
        ({"settings": QuerySettings(others=0)}, "setting others must be in"),
        ({"settings": QuerySettings(dense=-1)}, "setting dense must be in"),
        ({"n_catalog": 8}, "the memory is for 9 items, the catalog has 8"),
        ({"isa": "abacus"}, "there is no instruction set 'abacus'"),
    ],
)
def test_settings_misuse(options: dict, reason: str) -> None:
    arrays = MemoryTables.build(Sessions.from_lists([[1, 2, 3]]), 9).arrays()
    with pytest.raises(ValueError, match=reason):
        SessionMemory(arrays, 1.0, **({"n_catalog": 9} | options))


@pytest.mark.skipif("MTAW_DATA" not in os.environ, reason="MTAW_DATA names no folder with the public session sets")
@pytest.mark.parametrize(
    "name", ["tmall", pytest.param("retailrocket", marks=pytest.mark.long(caught="here, on the other set"))]
)
def test_public_sets(name: str) -> None:
    with np.load(Path(os.environ["MTAW_DATA"]) / name / "train.npz") as data:
        sessions = Sessions((data["items"] - 1).astype(np.int32), data["offsets"].astype(np.int64))
        n_items = int(data["n_items"])
    earlier, last = sessions.split_last(0.02)
    tables = MemoryTables.build(earlier, n_items, threads=2)
    rows = np.random.default_rng(0).choice(np.flatnonzero(last.lengths), 25, replace=False)
    prefixes = last.select(rows)
    dense = random_dense(len(rows), n_items, 100, 6)
    assert_as_reference(Problem(tables, QuerySettings(), n_items, prefixes, dense))
    assert feature_names() == NAMES
