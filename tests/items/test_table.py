"""The item table against a dict of rows: random tables, patches, sizes, a file, and events that change it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.items import ItemFrame, ItemTable, TableChange
from mtaw_fast.items.live import LiveItems
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors

KINDS = {
    "price": "number", "brand": "category", "tags": "categories", "sold": "boolean", "title": "text", "since": "time",
    "face": "vector",
}  # fmt: skip
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "price": st.floats(-1e6, 1e6, width=32).map(float),
    "brand": st.sampled_from(["own", "x", "Zoë", "日本"]),
    "tags": st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, unique=True),
    "sold": st.booleans(),
    "title": st.text(st.characters(codec="utf-8"), min_size=1, max_size=12),
    "since": st.integers(10**12, 2 * 10**12),
    "face": st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3),
}
IDS = [f"i{place}" for place in range(9)]
CATALOG = IDS[:6]
rows = st.lists(st.sampled_from(IDS), unique=True).flatmap(
    lambda ids: st.tuples(
        *(
            st.fixed_dictionaries({"id": st.just(item)}, optional={k: st.none() | v for k, v in VALUES.items()})
            for item in ids
        )
    )
)
steps = st.lists(st.tuples(st.sampled_from(["patch", "replace", "file", "grow"]), rows), min_size=1, max_size=5)


def frame_of(given_rows: Any) -> ItemFrame:
    return ItemFrame.of({"id": []} if not given_rows else list(given_rows), kinds=KINDS)


def places_of(ids: list[Any], count: int) -> np.ndarray:
    return np.array([IDS.index(item) if IDS.index(item) < count else -1 for item in ids], dtype=np.int64)


@settings(max_examples=60, deadline=None)
@given(steps=steps)
def test_equals_a_dict_of_rows(steps: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    table, count = ItemTable(len(CATALOG)), len(CATALOG)
    expected: dict[str, dict[str, Any]] = {}
    for kind, given_rows in steps:
        frame = frame_of(given_rows)
        version = table.version
        if kind == "file":
            path = tmp_path_factory.mktemp("table") / "t.safetensors"
            write_tensors(path, table.arrays())
            table = ItemTable.of(map_tensors(path))
            continue
        if kind == "grow":
            count = min(count + 1, len(IDS))
            table = table.admitted(places_of(table.waiting.ids, count), count).resized(count)
            continue
        places = places_of(frame.ids, count)
        table = table.patched(frame, places) if kind == "patch" else table.replaced(frame, places, count)
        assert table.version > version
        if kind == "replace":
            expected = {}
        for row in given_rows:
            values = expected.setdefault(row["id"], {})
            for name, value in row.items():
                values[name] = value
        if kind == "replace":
            assert set(table.columns) == set(frame.columns)
    for place, item in enumerate(IDS):
        wanted = {k: v for k, v in expected.get(item, {}).items() if v is not None and k != "id"}
        if place < count:
            assert table.values_at(table.columns, np.array([place]))[0] == wanted
        elif item in table.waiting.ids:
            waiting = ItemTable(len(table.waiting), table.waiting.columns)
            assert waiting.values_at(waiting.columns, np.array([table.waiting.ids.index(item)]))[0] == wanted
        else:
            assert not wanted
    assert table.values_at(table.columns, np.array([count, -1])) == [{}, {}]


def test_a_replacement_keeps_what_was_declared() -> None:
    first = ItemFrame.of({"id": ["a"], "stock": [True], "price": [1.0], "cost": [0.5]})
    table = ItemTable(1).replaced(first, np.arange(1), 1, ["price"], "stock")
    replaced: Any = table.replaced(ItemFrame.of({"id": ["a"], "stock": [False], "price": [2.0]}), np.arange(1), 1)
    assert (replaced.public, replaced.availability, list(replaced.columns)) == (("price",), "stock", ["stock", "price"])
    assert replaced.unavailable.tolist() == [True]
    assert table.replaced(ItemFrame.of({"id": ["a"]}), np.arange(1), 1).availability is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"price": ["cheap"]}, "column 'price', row 1 (id 'a'): 'cheap' is not a number"),
        ({"brand": [3]}, "column 'brand', row 1 (id 'a'): 3 is not a text"),
        ({"stock": [1]}, "column 'stock', row 1 (id 'a'): 1 is not true or false"),
    ],
)
def test_another_type_is_refused(values: dict[str, Any], message: str) -> None:
    table = ItemTable(1).replaced(
        ItemFrame.of({"id": ["a"], "price": [1.0], "brand": ["x"], "stock": [True]}), np.arange(1), 1
    )
    with pytest.raises(DataError) as error:
        ItemFrame.of({"id": ["a"]} | values, kept=table.kinds)
    assert message in str(error.value)
    with pytest.raises(DataError, match="column 'price' is number in the item table, not category"):
        table.patched(ItemFrame.of({"id": ["a"], "price": ["cheap"]}), np.arange(1))
    with pytest.raises(UsageError, match="no column 'prise'"):
        table["prise"]
    with pytest.raises(DataError, match="availability 'price' is a column of number"):
        table.patched(ItemFrame.of({"id": ["a"]}), np.arange(1), availability="price")


def test_damaged_arrays_are_refused(tmp_path: Path) -> None:
    table = ItemTable(2).replaced(ItemFrame.of({"id": ["a", "b", "c"], **SOME}, kinds=KINDS), np.array([0, 1, -1]), 2)
    arrays = table.arrays()
    assert ItemTable.of(arrays).kinds == KINDS
    for name, array in arrays.items():
        without = {key: value for key, value in arrays.items() if key != name}
        with pytest.raises(DataError):
            ItemTable.of(without)
        if array.size:
            with pytest.raises(DataError):
                ItemTable.of(without | {name: array[:-1]})
        if array.size and name.endswith(("codes", "offsets")):
            for wrong in (-5, 99):
                broken = array.copy()
                broken[-1] = wrong
                with pytest.raises(DataError):
                    ItemTable.of(without | {name: broken})


SOME = {
    "price": [1.0, 2.0, None], "brand": ["x", "y", "x"], "tags": [["a"], None, ["b", "c"]], "sold": [True, None, False],
    "title": ["one", "two", None], "since": [10**12, None, 10**12], "face": [[1.0, 2.0], None, [3.0, 4.0]],
}  # fmt: skip


def frame(items: Sequence[str]) -> ItemFrame:
    return ItemFrame.of({"id": list(items), "price": [float(len(item)) for item in items]})


def test_rows_that_wait_are_kept_if_the_catalog_grows_after_a_change() -> None:
    def lookup(items: Sequence[str]) -> np.ndarray:
        return np.array([["a", "waits", "aa"].index(item) for item in items], dtype=np.int32)

    live = LiveItems(ItemTable(1).replaced(frame(["a", "waits"]), np.array([0, -1]), 1))
    live.apply(TableChange.of(frame(["aa"]), "patch"), 1)
    table: Any = live.table(lookup, 3)
    assert table.columns["price"].values_at(np.arange(3)) == [1.0, 5.0, 2.0]


def some_change(chance: Random) -> TableChange:
    kind, rows = chance.choice(("number", "category")), []
    for item in chance.sample("abcd", 2):
        row = {"size": chance.randrange(9) if kind == "number" else chance.choice("SML"), "on": chance.random() < 0.5}
        rows.append({"id": item, **{name: value for name, value in row.items() if chance.random() < 0.6}})
    columns = {name: kind if name == "size" else "boolean" for row in rows for name in row if name != "id"}
    public = None if chance.random() < 0.5 else [name for name in columns if chance.random() < 0.5]
    frame = ItemFrame.of(rows, kinds=columns)
    availability = "on" if "on" in columns and chance.random() < 0.5 else None
    return TableChange(
        chance.choice(("replace", "patch")), frame, None if public is None else tuple(public), availability
    )


def waiting(table: ItemTable) -> list[tuple[str, dict[str, object]]]:
    rows = ItemTable(len(table.waiting), table.waiting.columns)
    return [*zip(table.waiting.ids, rows.values_at(rows.kinds, np.arange(rows.n_rows)), strict=True)]


@pytest.mark.parametrize("seed", range(40))
def test_a_table_does_not_depend_on_how_often_it_is_made(seed: int) -> None:
    """Readers read events in pieces of different sizes; also if a replacement changes the kind of a column."""
    chance = Random(seed)
    first = some_change(chance)

    def lookup(items: Sequence[str]) -> np.ndarray:
        return np.array(["abc".find(item) for item in items], dtype=np.int32)

    base = ItemTable(3).replaced(
        first.frame, lookup(first.frame.ids).astype(np.int64), 3, first.public, first.availability
    )
    often, once = LiveItems(base), LiveItems(base)
    for time in range(12):
        change, refused = some_change(chance), []
        for live in (often, once):
            try:
                live.apply(change, time)
            except DataError as error:
                refused.append(str(error))
        assert len(set(refused)) in (0, 1)
        assert len(refused) in (0, 2)
        often.table(lookup, 3)
    ours, theirs = often.table(lookup, 3), once.table(lookup, 3)
    assert ours is not None
    assert theirs is not None
    assert (ours.kinds, ours.public, ours.availability) == (theirs.kinds, theirs.public, theirs.availability)
    assert ours.values_at(ours.kinds, np.arange(3)) == theirs.values_at(ours.kinds, np.arange(3))
    assert waiting(ours) == waiting(theirs)


def test_changes_are_unpacked_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """In CPython 3.11, numpy may fail if two threads read headers at once."""
    packed = TableChange.of(frame(["a"])).packed()
    real, together, met = np.load, threading.Barrier(2), list[bool]()

    def load(*arguments: Any, **named: Any) -> Any:
        with suppress(threading.BrokenBarrierError):
            together.wait(0.5)
            met.append(True)
        return real(*arguments, **named)

    monkeypatch.setattr(np, "load", load)
    threads = [threading.Thread(target=TableChange.unpacked, args=(packed,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not met
