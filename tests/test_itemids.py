"""The id table: both ways, in both kinds, with colliding hashes, and from arrays that do not fit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast import itemids
from mtaw_fast.errors import DataError
from mtaw_fast.itemids import ItemIds

int64 = st.integers(-(2**63), 2**63 - 1)
ODD_TEXTS = ["", " ", "7", "007", "naïve", "nai\u0308ve", "日本", "🛒", "a\x00b", "a", "A", "\ud800", "x" * 5000]


@settings(max_examples=100, deadline=None)
@given(ids=st.one_of(st.lists(int64, unique=True), st.lists(st.text(), unique=True)), other=st.lists(int64))
def test_both_ways(ids: list[Any], other: list[int]) -> None:
    table = ItemIds.from_list(ids)
    asked: list[Any] = [*ids, *other, *map(str, other), None, 1.0]
    expected = [next((k for k, v in enumerate(ids) if type(v) is type(value) and v == value), -1) for value in asked]
    found = table.lookup(asked)
    assert found.dtype == np.int32
    assert found.tolist() == expected
    assert table.external(np.arange(len(ids))) == ids
    assert len(table) == len(ids)


def test_odd_texts() -> None:
    table = ItemIds.from_list(ODD_TEXTS)
    assert table.kind == "str"
    assert table.lookup(ODD_TEXTS).tolist() == list(range(len(ODD_TEXTS)))
    assert table.external(np.array([12, 11, 0])) == [ODD_TEXTS[12], "\ud800", ""]
    assert table.lookup(["b", 7, None, b"a", True]).tolist() == [-1] * 5


@pytest.mark.parametrize("buckets", [1, 3])
def test_equal_hashes_are_told_apart(monkeypatch: pytest.MonkeyPatch, buckets: int) -> None:
    monkeypatch.setattr(itemids, "_hash", lambda value: (len(value) % buckets) * (2**64 // buckets))
    ids = [f"item-{k}" * (k % 4 + 1) for k in range(200)]
    random.Random(0).shuffle(ids)
    table = ItemIds.from_list(ids)
    assert table.lookup(ids).tolist() == list(range(200))
    assert table.lookup(["item-200", "item", ""]).tolist() == [-1, -1, -1]
    with pytest.raises(DataError, match="twice"):
        ItemIds.from_list([*ids, ids[7]])


def test_largest_hash_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(itemids, "_hash", lambda _: 2**64 - 1)
    assert ItemIds.from_list(["a", "b"]).lookup(["b", "c", "a"]).tolist() == [1, -1, 0]


def test_ints() -> None:
    ids: list[Any] = [5, -(2**63), 0, 2**63 - 1, np.int32(9)]
    table = ItemIds.from_list(ids)
    assert table.kind == "int"
    assert table.lookup([2**63 - 1, 9, np.int64(5), np.uint8(0), -(2**63)]).tolist() == [3, 4, 0, 2, 1]
    assert table.lookup([2**63, -(2**63) - 1, 10**40, True, False, 5.0, "5", None, 7]).tolist() == [-1] * 9
    assert table.external(np.array([1, 1, 4])) == [-(2**63), -(2**63), 9]


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ([1, "a"], "mixture"),
        ([1, True], "mixture"),
        (["a", None], "mixture"),
        ([1.5], "mixture"),
        ([1, 2, 1], "twice"),
        (["a", "b", "a"], "twice"),
        ([2**63], "int64"),
        ([-(2**63) - 1], "int64"),
    ],
)
def test_refused_ids(ids: list[Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        ItemIds.from_list(ids)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ids", [[], [3, 1], ["b", "a"]])
def test_from_its_own_arrays(ids: list[Any]) -> None:
    table = ItemIds(ItemIds.from_list(ids).arrays)
    assert table.external(np.arange(len(ids))) == ids
    assert table.lookup([*ids, "zz"]).tolist() == [*range(len(ids)), -1]
    assert table.lookup([]).tolist() == []


@pytest.mark.parametrize("kind", ["int", "str"])
def test_arrays_that_do_not_fit_are_refused(kind: str) -> None:
    arrays = ItemIds.from_list([3, 1, 2] if kind == "int" else ["c", "a", "b"]).arrays
    bad: list[dict[str, np.ndarray]] = [{}, {"values": np.arange(3)}, {**arrays, "more": np.arange(3)}]
    for name, array in arrays.items():
        bad += [{**arrays, name: array[:-1]}, {**arrays, name: array.astype(np.float64)}]
        bad += [{key: value for key, value in arrays.items() if key != name}, {**arrays, name: array[None]}]
    bad += [{**arrays, "order": np.array(order, np.int32)} for order in ([0, 1, 3], [0, 1, -1])]
    if kind == "str":
        bad += [{**arrays, "offsets": np.array(ends, np.int64)} for ends in ([0, 2, 1, 3], [1, 1, 2, 3], [0, 1, 2, 9])]
    for case in bad:
        with pytest.raises(DataError, match="not an item id table"):
            ItemIds(case)
