"""The item table while events change it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

import numpy as np
import pytest

from mtaw_fast.errors import DataError
from mtaw_fast.items import ItemFrame, ItemTable, TableChange
from mtaw_fast.items.live import LiveItems


def frame(items: Sequence[str]) -> ItemFrame:
    return ItemFrame.of({"id": list(items), "price": [float(len(item)) for item in items]})


def test_rows_that_wait_are_kept_if_the_catalog_grows_after_a_change() -> None:
    known = {"a": 0}

    def lookup(items: Sequence[str]) -> np.ndarray:
        return np.array([known.get(item, -1) for item in items], dtype=np.int32)

    first = frame(["a", "waits"])
    live = LiveItems(ItemTable(1).replaced(first, lookup(first.ids).astype(np.int64), 1))
    live.apply(TableChange.of(frame(["aa"]), "patch"), 1)
    known |= {"waits": 1, "aa": 2}
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
