"""The item table while events change it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
    table = live.table(lookup, 3)
    assert table is not None
    assert table.columns["price"].values_at(np.arange(3)) == [1.0, 5.0, 2.0]
