"""The columns of an item table that a ranker's features are made from."""

from __future__ import annotations

import weakref

import numpy as np

from mtaw_fast.items import ItemTable
from mtaw_fast.items.columns import NO_TIME, CategoriesColumn, CategoryColumn, Column, TimeColumn
from mtaw_fast.kernels.native.trends import MAX_CATEGORIES, ItemContent
from mtaw_fast.memory.side_features import SideFeatures


def content_columns(items: ItemTable | None) -> SideFeatures:
    """Return the side features of a table: of its first four category columns, and of its first time column."""
    if items is None:
        return SideFeatures()
    categories = [
        name for name, column in items.columns.items() if isinstance(column, CategoryColumn | CategoriesColumn)
    ]
    times = [name for name, column in items.columns.items() if isinstance(column, TimeColumn)]
    return SideFeatures((), tuple(categories[:MAX_CATEGORIES]), times[0] if times else None)


def item_content(side: SideFeatures, items: ItemTable | None) -> ItemContent | None:
    """Return the content that a ranker with these features reads; None if it reads none.

    Where the table is gone, or lacks a column, everything in it is missing.
    """
    return ItemContent(*content_arrays(side, items)) if side.has_content else None


def content_arrays(side: SideFeatures, items: ItemTable | None) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Return what the features read: int32[n] codes of each category column, -1 if missing, and int64[n] of the time
    column, `NO_TIME` if missing."""
    columns = {} if items is None else items.columns
    n_rows = 0 if items is None else items.n_rows
    created = columns.get(side.created) if side.created is not None else None
    times = None
    if side.created is not None:
        missing = np.full(n_rows, NO_TIME)
        times = np.ascontiguousarray(created.values) if isinstance(created, TimeColumn) else missing
    return [_codes(columns.get(name), n_rows) for name in side.categories], times


def _codes(column: Column | None, n_rows: int) -> np.ndarray:
    """Return int32[n]: the code of each row, the first one if a row has several; -1 if missing."""
    if isinstance(column, CategoryColumn):
        return np.ascontiguousarray(column.codes)
    if not isinstance(column, CategoriesColumn):
        return np.full(n_rows, -1, dtype=np.int32)
    codes = _first_codes.get(column)
    if codes is None:
        codes = np.full(column.n_rows, -1, dtype=np.int32)
        present = ~column.missing
        codes[present] = column.codes[column.offsets[:-1][present]]
        _first_codes[column] = codes
    return codes


# A service makes a catalog every few clicks, and a table seldom.
_first_codes: weakref.WeakKeyDictionary[CategoriesColumn, np.ndarray] = weakref.WeakKeyDictionary()
