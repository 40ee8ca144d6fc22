"""The items that meet a condition, computed once for the columns that it reads, and kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.items import Column, ItemTable
from mtaw_fast.kernels.native.rules import Condition, ItemColumns
from mtaw_fast.system.fork_lock import ForkLock

_MAX_BYTES = 64 << 20
_MAX_FILTERS = 512
_NATIVE: WeakKeyDictionary[ItemTable, ItemColumns] = WeakKeyDictionary()


def native_columns(table: ItemTable) -> ItemColumns:
    """Return the columns of a table; made once for each table."""
    columns = _NATIVE.get(table)
    if columns is None:
        entries = [(column.name, column.kind, column.public, column.arrays()) for column in table.columns.values()]
        columns = _NATIVE[table] = ItemColumns(entries)
    return columns


def values_of(table: ItemTable, names: Sequence[str], item: int | None) -> tuple[Any, ...]:
    """Return an item's values in some columns, hashable; None for missing ones, and for all without an item."""
    if item is None:
        return (None,) * len(names)
    values = [table.columns[name].values_at(np.array([item]))[0] for name in names]
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


@dataclass(slots=True)
class _Kept:
    columns: tuple[Column, ...]  # that it was computed from: columns never change, a changed one is another
    n_items: int
    filter: Filter

    @property
    def n_bytes(self) -> int:
        return 2 * self.n_items  # the mask, its bits, and what an index derives


class BitmapCache:
    """Filters by their conditions, the least recently used dropped first. Thread-safe.

    A change of a column drops the filters that read it, and no others.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES, max_filters: int = _MAX_FILTERS) -> None:
        self._max_bytes, self._max_filters = max_bytes, max_filters
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._n_bytes = 0
        self._lock = ForkLock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def n_bytes(self) -> int:
        """Estimated bytes of all filters."""
        return self._n_bytes

    def filter(self, condition: Condition, table: ItemTable, n_items: int, item: int | None = None) -> Filter:
        """Return the items of 0..n_items-1, those without a row too, that meet a checked condition.

        item: the last click's item, an internal id, or None.
        """
        key = condition.source, values_of(table, condition.current, item)
        columns = tuple(table.columns[name] for name in condition.columns)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept.n_items == n_items and _same(kept.columns, columns):
                self._kept.move_to_end(key)
                return kept.filter
        entry = _Kept(columns, n_items, Filter.of_bits(condition.bits(native_columns(table), item, n_items), n_items))
        with self._lock:
            self._store(key, entry)
        return entry.filter

    def drop_changed(self, table: ItemTable) -> None:
        """Forget the filters of columns that are not in `table`, so that their memory is free at once."""
        current = {id(column) for column in table.columns.values()}
        with self._lock:
            for key in [
                key for key, kept in self._kept.items() if any(id(column) not in current for column in kept.columns)
            ]:
                self._n_bytes -= self._kept.pop(key).n_bytes

    def _store(self, key: Hashable, entry: _Kept) -> None:
        replaced = self._kept.pop(key, None)
        if replaced is not None:
            self._n_bytes -= replaced.n_bytes
        self._kept[key] = entry
        self._n_bytes += entry.n_bytes
        while len(self._kept) > 1 and (self._n_bytes > self._max_bytes or len(self._kept) > self._max_filters):
            self._n_bytes -= self._kept.popitem(last=False)[1].n_bytes


def _same(a: tuple[Column, ...], b: tuple[Column, ...]) -> bool:
    return len(a) == len(b) and all(column is other for column, other in zip(a, b, strict=True))
