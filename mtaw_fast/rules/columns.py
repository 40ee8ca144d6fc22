"""Item tables as the native rules read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from mtaw_fast.items import ItemTable
from mtaw_fast.kernels.native.rules import ItemColumns

_LATEST: WeakKeyDictionary[ItemTable, ItemColumns] = WeakKeyDictionary()


def native_columns(table: ItemTable) -> ItemColumns:
    """Return the columns of a table; made once for each table."""
    columns = _LATEST.get(table)
    if columns is None:
        entries = [(column.name, column.kind, column.public, column.arrays()) for column in table.columns.values()]
        columns = _LATEST[table] = ItemColumns(entries)
    return columns


def values_of(table: ItemTable, names: Sequence[str], item: int | None) -> tuple[Any, ...]:
    """Return an item's values in some columns, hashable; None for missing ones, and for all without an item."""
    if item is None:
        return (None,) * len(names)
    values = [table.columns[name].values_at(np.array([item]))[0] for name in names]
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)
