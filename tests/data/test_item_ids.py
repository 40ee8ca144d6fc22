"""The id table: both ways, in both kinds, with equal hashes, and from arrays that do not fit."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import DataError
from mtaw_fast.kernels.native import reference

int64 = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=100, deadline=None)
@given(ids=st.one_of(st.lists(int64, unique=True), st.lists(st.text(), unique=True)), other=st.lists(int64))
def test_both_ways(ids: list[Any], other: list[int]) -> None:
    table = ItemIds.from_list(ids)
    values: list[Any] = [*ids, *other, *map(str, other), None, 1.0]
    expected = [next((k for k, v in enumerate(ids) if type(v) is type(value) and v == value), -1) for value in values]
    internal = table.lookup(values)
    assert internal.dtype == np.int32
    assert internal.tolist() == expected
    assert table.external(np.arange(len(ids))) == ids
    assert len(table) == len(ids)


def text_arrays(ids: list[str]) -> dict[str, np.ndarray]:
    return dict(ItemIds.from_list(ids).arrays)


@settings(max_examples=50, deadline=None)
@given(ids=st.lists(st.text(), unique=True))
def test_the_hash_table_is_the_documented_one(ids: list[str]) -> None:
    encoded = [value.encode("utf-8", "surrogatepass") for value in ids]
    if ids:
        assert text_arrays(ids)["slots"].tolist() == reference.text_slots(encoded).tolist()


def test_hashes_stay_what_stored_tables_were_made_with() -> None:
    known = {b"": 0, b"a": 3682641831224766729, b"sku-12345": 886955486190277279, b"\xff" * 16: 6166655107781669967}
    assert {text: reference.text_hash(text) for text in known} == known


def test_equal_hashes_are_told_apart() -> None:
    """Slots that claim an id's hash for others, before and after its own: only its bytes decide."""
    ids = [f"item-{k}" for k in range(5)]
    arrays = text_arrays(ids)
    count = len(arrays["slots"])
    for place, text in enumerate(ids):
        value = reference.text_hash(text.encode())
        slots = np.zeros(count, dtype=np.uint64)
        for step, internal in enumerate([(place + 1) % 5, (place + 2) % 5, place, (place + 3) % 5]):
            slots[(value + step) % count] = value >> 32 << 32 | internal + 1
        assert ItemIds({**arrays, "slots": slots}).lookup([text]).tolist() == [place]
        slots[(value + 2) % count] = value >> 32 << 32 | (place + 4) % 5 + 1
        assert ItemIds({**arrays, "slots": slots}).lookup([text]).tolist() == [-1]


def test_a_table_can_be_pickled_and_copied() -> None:
    for ids in ([3, 1, 2], ["b", "a"]):
        table = ItemIds.from_list(ids)
        for other in (pickle.loads(pickle.dumps(table)), copy.deepcopy(table)):
            assert other.external(other.lookup(ids)) == ids


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


@pytest.mark.parametrize("kind", ["int", "str"])
def test_arrays_that_do_not_fit_are_refused(kind: str) -> None:
    arrays = ItemIds.from_list([3, 1, 2] if kind == "int" else ["c", "a", "b"]).arrays
    bad: list[dict[str, np.ndarray]] = [{}, {"values": np.arange(3)}, {**arrays, "more": np.arange(3)}]
    for name, array in arrays.items():
        bad += [{**arrays, name: array[:-1]}, {**arrays, name: array.astype(np.float64)}]
        bad += [{key: value for key, value in arrays.items() if key != name}, {**arrays, name: array[None]}]
    if kind == "int":
        bad += [{**arrays, "order": np.array(order, np.int32)} for order in ([0, 1, 3], [0, 1, -1])]
    else:
        bad += [{**arrays, "offsets": np.array(ends, np.int64)} for ends in ([0, 2, 1, 3], [1, 1, 2, 3], [0, 1, 2, 9])]
    for case in bad:
        with pytest.raises(DataError, match="not an item id table"):
            ItemIds(case)


def test_a_text_that_is_no_utf8_is_told_when_it_is_asked_for() -> None:
    arrays = dict(ItemIds.from_list(["abc", "d\u00e9f", "g"]).arrays)
    arrays["blob"] = np.where(np.arange(len(arrays["blob"])) == 4, 0xFF, arrays["blob"]).astype(np.uint8)
    table = ItemIds(arrays)
    assert table.external(np.array([0, 2])) == ["abc", "g"]
    with pytest.raises(ValueError, match="the external id of item 1 is no UTF-8: the id table is damaged") as caught:
        table.external(np.array([0, 1]))
    assert not isinstance(caught.value, UnicodeDecodeError)


def test_hash_slots_that_lie_make_ids_unknown() -> None:
    """A full table without the wanted text must end the search, and one that points outside must not be followed."""
    names = [f"item {i}" for i in range(20)]
    arrays = dict(ItemIds.from_list(names).arrays)
    slots = arrays["slots"]
    for damaged in (
        np.full_like(slots, 2**64 - 1),
        np.ones_like(slots),
        slots | np.uint64(0x40),
        slots[:1],
        slots[::-1].copy(),
    ):
        internals = ItemIds({**arrays, "slots": damaged}).lookup([*names, "nobody"])
        assert all(internal in (-1, place) for place, internal in enumerate(internals[:-1]))
        assert internals[-1] == -1
