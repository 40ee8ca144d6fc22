"""Which rows that wait are new: by a column of dates, or because the table before did not have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.items import ItemTable, TableChange
from mtaw_fast.items.new_rows import MOST, WINDOW, with_new

UNTIL, DAY = 1_700_000_000_000, 86_400_000
OLD = 5 * MOST


def table_of(rows: dict[str, Any], made: int = UNTIL, **options: Any) -> ItemTable:
    """Return the table of a catalog that knows the item `a` alone."""
    change = TableChange.of(rows, **options)
    return change.applied(ItemTable(1, made=made), lookup, 1)


def lookup(ids: Sequence[Any]) -> np.ndarray:
    return np.array([0 if item == "a" else -1 for item in ids], dtype=np.int32)


def dated(dates: Mapping[str, int | None]) -> ItemTable:
    return table_of({"id": list(dates), "came": [*dates.values()]}, kinds={"came": "time"}, new_since="came")


def test_a_date_says_what_is_new() -> None:
    dates = {"a": UNTIL, "new": UNTIL - DAY, "later": UNTIL + DAY, "edge": UNTIL - WINDOW, "undated": None}
    table = with_new(dated(dates), UNTIL)
    assert table.new == {"new": UNTIL - DAY, "later": UNTIL + DAY}
    assert with_new(dated(dates), UNTIL - DAY).new.keys() == {"new", "later", "edge"}
    assert with_new(dated(dates), None).new == table.new  # without times of clicks: when the table was made
    again = ItemTable.of(table.arrays())
    assert (again.new, again.new_since) == (table.new, "came")
    known = again.admitted(np.array([1 if item == "new" else -1 for item in again.waiting.ids]), 2)
    assert known.new == {"later": UNTIL + DAY}


def test_thousands_of_old_rows_are_not_new() -> None:
    old = {f"old-{row}": UNTIL - 2 * WINDOW for row in range(OLD)}
    assert with_new(dated({"a": UNTIL, **old, "new": UNTIL}), UNTIL).new == {"new": UNTIL}
    many = {f"new-{row}": UNTIL - row for row in range(OLD)}
    assert [*with_new(dated(many), UNTIL).new] == [f"new-{row}" for row in range(MOST)]  # the newest
    before = table_of({"id": ["a"], "price": [1.0]})
    rows = {"id": ["a", *old], "price": [1.0] * (OLD + 1)}
    assert not with_new(table_of(rows), UNTIL, before).new
    assert not with_new(table_of(rows), UNTIL).new  # no table before says what is old


def test_without_a_date_the_table_before_says_what_is_new() -> None:
    before = with_new(table_of({"id": ["a", "old"], "price": [1.0, 2.0]}), UNTIL)
    rows: dict[str, Any] = {"id": ["a", "old", "new"], "price": [1.0, 2.0, 3.0]}
    day = with_new(table_of(rows, made=UNTIL + DAY), UNTIL, before)
    assert day.new == {"new": UNTIL + DAY}
    known = with_new(table_of(rows), UNTIL, before, lambda ids: np.zeros(len(ids), dtype=np.int32))
    assert not known.new  # the bundle before had the item, by its clicks
    rows = {"id": [*rows["id"], "newest"], "price": [*rows["price"], 4.0]}
    for last, kept in ((UNTIL + DAY, ["new", "newest"]), (UNTIL + DAY + WINDOW, ["newest"])):
        assert [*with_new(table_of(rows, made=last + DAY), last, day).new] == kept
    gone = table_of({"id": ["a", "newest"], "price": [1.0, 4.0]})
    assert [*with_new(gone, UNTIL, day).new] == ["newest"]


def test_the_column_is_kept_and_must_be_a_time() -> None:
    table = dated({"a": UNTIL, "b": UNTIL})
    patch = TableChange.of({"id": ["c"], "came": [UNTIL]}, "patch", before=table)
    assert with_new(patch.applied(table, lookup, 1), UNTIL).new.keys() == {"b", "c"}
    change = TableChange.of({"id": ["c"], "came": [UNTIL]}, before=table, kinds={"came": "time"})
    assert change.applied(table, lookup, 1).new_since == "came"
    assert TableChange.unpacked(TableChange("patch", change.frame, new_since="came").packed()).new_since == "came"
    with pytest.raises(DataError, match="new_since 'price' must be a column of time, not number"):
        table_of({"id": ["a"], "price": [1.5]}, new_since="price")
    with pytest.raises(UsageError, match="new_since"):
        table_of({"id": ["a"], "price": [1.5]}, new_since="prise")
