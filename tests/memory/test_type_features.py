"""The features of the types of clicks: by hand, against the reference, and as the ranker reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.data.click_types import ClickTypes, checked_types
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.kernels.native.memory_query import MAX_TYPES, NO_TYPE, NativeRankerNet, feature_names
from mtaw_fast.memory import MemorySettings, MemoryTables, RankerNet
from mtaw_fast.memory.ranker_net import type_feature_names, types_in
from tests.memory.reference.candidates import QuerySettings
from tests.memory.reference.types import type_features
from tests.support.memory.queries import Problem, assert_ranked_by, random_dense, random_ranker
from tests.support.ranking.typed_model import with_types

N_ITEMS = 40
BASE = len(feature_names())
VIEW, CART = 0, 1


@pytest.fixture(scope="module")
def problem() -> Problem:
    rng = np.random.default_rng(3)
    log = Sessions.from_lists([rng.integers(0, N_ITEMS, rng.integers(2, 9)) for _ in range(200)])
    tables = MemoryTables.build(log, N_ITEMS, MemorySettings(max_neighbors=6, max_postings=20))
    # More items than `own`, more clicks than are looked at, a single click.
    lengths = (1, 2, 3, 7, 15, 30, 60, 700)
    sessions = Sessions.from_lists([rng.integers(0, N_ITEMS + 3, length) for length in lengths])
    settings = QuerySettings(own=9, others=12, dense=5)
    return Problem(tables, settings, N_ITEMS + 3, sessions, random_dense(len(sessions), N_ITEMS + 3, 5, 1))


@pytest.mark.parametrize("n_types", [1, 3, MAX_TYPES])
def test_native_equals_reference(problem: Problem, n_types: int) -> None:
    codes = np.random.default_rng(n_types).integers(0, n_types + 1, problem.sessions.n_clicks).astype(np.uint8)
    codes[codes == n_types] = NO_TYPE
    for types in (codes, None):
        ids, values = problem.memory().features(*problem.ranges, problem.dense, types=types, n_types=n_types)
        same, plain = problem.memory().features(*problem.ranges, problem.dense)
        np.testing.assert_array_equal(ids, same)
        np.testing.assert_array_equal(values[..., :BASE], plain)
        for row in range(len(ids)):
            clicks = slice(problem.sessions.offsets[row], problem.sessions.offsets[row + 1])
            listed = [item for item in ids[row].tolist() if item >= 0]
            of_clicks = None if types is None else types[clicks].tolist()
            expected = type_features(problem.reference(row), of_clicks, n_types, listed)
            np.testing.assert_array_equal(values[row, : len(listed), BASE:], expected, err_msg=f"prefix {row}")


def test_by_hand() -> None:
    """After view a, cart b, view a, ?? c: a is carted by no one, b was last carted, the type of c is unknown."""
    log = Sessions.from_lists([[1, 4], [2, 5]])  # b leads to 4, c to 5
    tables = MemoryTables.build(log, 6)
    items, types = np.array([0, 1, 0, 2], np.int32), np.array([VIEW, CART, CART, NO_TYPE], np.uint8)

    def of(end: int) -> dict[int, list[float]]:
        begins, ends = np.zeros(1, np.int64), np.array([end])
        ids, values = tables.queries(6).features(items, begins, ends, types=types, n_types=2)
        return {item: row[BASE:].tolist() for item, row in zip(ids[0].tolist(), values[0], strict=True) if item >= 0}

    unknown, view, cart = [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]
    assert of(4) == {
        2: unknown + unknown + unknown,
        0: unknown + unknown + [0.5, 1.0],  # viewed, then carted
        1: unknown + unknown + cart,
        4: unknown + cart + unknown,  # by way of b
        5: unknown + unknown + unknown,  # by way of c, whose type is unknown
    }
    assert of(1) == {0: view + unknown + view}
    assert of(2)[4] == cart + cart + unknown


@pytest.mark.parametrize("isa", [None, "portable"])
def test_the_ranker_reads_them(problem: Problem, isa: str | None) -> None:
    """The native ranking equals the ranker's formula over the native features, candidate by candidate."""
    net = with_types(random_ranker(4), ("view", "cart", "purchase"))
    types = np.random.default_rng(0).integers(0, 4, problem.sessions.n_clicks).astype(np.uint8)
    memory = problem.memory(isa)
    ids, values = memory.features(*problem.ranges, problem.dense, types=types, n_types=3)
    ranking = memory.rank(net.native(), *problem.ranges, 8, problem.dense, types=types)
    assert_ranked_by(net, (ids, values), ranking)
    neutral = np.full_like(types, NO_TYPE)
    missing = memory.rank(net.native(), *problem.ranges, 8, problem.dense)
    unknown = memory.rank(net.native(), *problem.ranges, 8, problem.dense, types=neutral)
    for array, other in zip(missing, unknown, strict=True):
        np.testing.assert_array_equal(array, other)
    assert not np.array_equal(ranking[1], missing[1])


def test_a_ranker_without_types_ignores_them(problem: Problem) -> None:
    memory, net = problem.memory(), random_ranker(4).native()
    types = np.zeros(problem.sessions.n_clicks, np.uint8)
    plain = memory.rank(net, *problem.ranges, 8, problem.dense)
    for array, other in zip(plain, memory.rank(net, *problem.ranges, 8, problem.dense, types=types), strict=True):
        assert array.tobytes() == other.tobytes()


def test_wrong_arguments(problem: Problem) -> None:
    memory = problem.memory()
    with pytest.raises(ValueError, match="types must have one entry for each click"):
        memory.features(*problem.ranges, problem.dense, types=np.zeros(3, np.uint8), n_types=2)
    with pytest.raises(ValueError, match="types must be"):
        memory.features(*problem.ranges, problem.dense, types=np.zeros(problem.sessions.n_clicks), n_types=2)
    for n_types in (-1, MAX_TYPES + 1):
        with pytest.raises(ValueError, match=f"n_types must be in 0..{MAX_TYPES}"):
            memory.features(*problem.ranges, problem.dense, n_types=n_types)
    with pytest.raises(ValueError, match="types of clicks"):
        NativeRankerNet(random_ranker(1).arrays(), MAX_TYPES + 1)
    with pytest.raises(ValueError, match="the ranker is for"):
        NativeRankerNet(random_ranker(1).arrays(), 1)


class TestRankerNet:
    """The types are in the names of the features."""

    def test_files_keep_them(self, tmp_path: Path) -> None:
        net = with_types(random_ranker(4), ("view", "in den Korb, bitte", "e_own_e_last_"))
        net.save(tmp_path / "ranker.safetensors")
        loaded = RankerNet.load(tmp_path / "ranker.safetensors")
        assert loaded.types == net.types == ClickTypes(("view", "in den Korb, bitte", "e_own_e_last_"))
        assert loaded.features == net.features
        assert not net.has_trends

    def test_other_features_are_refused(self) -> None:
        net = with_types(random_ranker(4), ("a", "b"))
        for names in (net.features[BASE:][::-1], net.features[BASE + 1 :], ("e_last_a", "e_near_a", "e_own_b")):
            with pytest.raises(DataError, match="not this release's"):
                types_in(names)
        with pytest.raises(DataError, match="not this release's"):
            types_in(type_feature_names(ClickTypes(tuple("abcdefghi"))))
        with pytest.raises(DataError, match="not this release's"):
            replace(net, features=(*net.features[BASE:], *net.features[:BASE]))


class TestClickTypes:
    """Which types a ranker reads, and their codes."""

    def test_the_most_frequent_ones(self) -> None:
        names = tuple(f"t{code}" for code in range(12))
        clicks = np.repeat(np.arange(12), [9, 1, 8, 2, 7, 3, 6, 4, 5, 10, 0, 11]).astype(np.uint8)
        assert ClickTypes.of_clicks(clicks, names).names == ("t0", "t2", "t4", "t6", "t7", "t8", "t9", "t11")
        assert ClickTypes.of_clicks(clicks[:10], names).names == ("t0", "t1")
        assert not ClickTypes.of_clicks(clicks[:9], names)  # a single type says nothing
        assert not ClickTypes.of_clicks(None, names)
        odd_names = ("view", "two\nlines", "", "x" * 201)
        assert ClickTypes.of_clicks(np.arange(4, dtype=np.uint8), odd_names).names == ("view",)

    def test_codes(self) -> None:
        types = ClickTypes(("view", "cart"))
        codes = types.codes(["cart", None, "never seen", "view"])
        assert codes.tolist() == [1, NO_TYPE, NO_TYPE, 0]
        assert types.names_of(codes) == ["cart", None, None, "view"]
        translated = types.translated(np.array([0, 1, 2], np.uint8), ("cart", "search", "view"))
        assert translated is not None
        assert translated.tolist() == [1, NO_TYPE, 0]
        assert types.translated(None, ()) is None
        assert ClickTypes().translated(np.zeros(1, np.uint8), ("view",)) is None

    def test_checks(self) -> None:
        assert checked_types("types", (name for name in ("view", None)), 2) == ["view", None]
        with pytest.raises(UsageError, match="types: there are 1 types for 2 clicks; give one for each"):
            checked_types("types", ["view"], 2)
        for wrong in ("view", None, 7):
            with pytest.raises(UsageError, match="types must be a list"):
                checked_types("types", wrong, 1)
        with pytest.raises(UsageError, match="types: 7 is not a type; write a text, or None"):
            checked_types("types", [7], 1)
