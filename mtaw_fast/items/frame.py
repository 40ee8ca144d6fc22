"""A table of items as it comes in: ids and typed columns, checked as a whole before anything changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError, UsageError, shown
from mtaw_fast.items.columns import Column
from mtaw_fast.items.values import WrongValueError, column_of, is_missing, refused
from mtaw_fast.system.cached_property import cached_property

MAX_COLUMNS = 256
MAX_NAME = 64  # characters of a column's name
NAME_IT = "name it with id: --id COLUMN, in prepare --item-id COLUMN"
MAX_ID = 512  # characters of an id
_INT64 = 2**63
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class ItemFrame:
    """Ids of m items and typed columns of m rows. Immutable.

    ids: external ids, all of one type, each once. columns: by name, in the source's order. given: bool[m] by name:
    which rows the source gives, for columns that some rows do not have. A row that is not given keeps its value in a
    patch; one that is given as missing loses it.
    """

    ids: list[Any]
    columns: Mapping[str, Column]
    given: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        data: Any,
        *,
        id: str = "id",
        kinds: Mapping[str, str] = _NOTHING,
        kept: Mapping[str, str] = _NOTHING,
        where: str = "items",
    ) -> ItemFrame:
        """Check a table and return it as a frame.

        data: None and NaN are missing values. id: the column of external ids. kinds: the declared kinds of some
        columns; the others are inferred. Values are converted where that loses nothing. kept: the kinds in the table so
        far, which values must have already. where: names the source in an error.

        Raises DataError on a missing or repeated id, a wrong value or a wrong name: one line with column and row;
        UsageError if there is no column of ids or a declared kind is unknown.
        """
        columns, given = _columns_of(data, where)
        if id not in columns:
            names = ", ".join(map(str, list(columns)[:10])) or "none"
            raise UsageError(f"{where}: there is no column {id!r} of item ids; {NAME_IT} (columns: {names[:200]})")
        ids = _checked_ids(columns.pop(id), f"{where}: column {id!r}")
        if len(columns) > MAX_COLUMNS:
            raise DataError(f"{where}: there are {len(columns):,} columns; at most {MAX_COLUMNS}")
        converted = {}
        for name, values in columns.items():
            check_name(name, where)
            if len(values) != len(ids):
                raise DataError(f"{where}: column {name!r} has {len(values):,} rows for {len(ids):,} ids")
            try:
                converted[name] = column_of(name, values, kinds.get(name, kept.get(name)), exact=name not in kinds)
            except WrongValueError as error:
                raise refused(where, name, ids, error) from None
        return cls(ids, converted, given)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def row_of(self) -> Mapping[Any, int]:
        """The row of each id."""
        return {item: row for row, item in enumerate(self.ids)}

    def merged(self, later: ItemFrame) -> ItemFrame:
        """Return one frame that changes what this one and then a later one do. Columns of a name have one kind."""
        new_items = [item for item in later.ids if item not in self.row_of]
        ids = [*self.ids, *new_items]
        new_row_of = {item: len(self.ids) + index for index, item in enumerate(new_items)}
        rows = np.array([self.row_of.get(item, new_row_of.get(item, -1)) for item in later.ids], dtype=np.int64)
        columns, given = {}, {}
        for name in [*self.columns, *(name for name in later.columns if name not in self.columns)]:
            source, mask = later.columns.get(name), np.zeros(len(ids), dtype=bool)
            column = self.columns[name] if name in self.columns else later.columns[name].resized(0)
            column = column.resized(len(ids))
            if name in self.columns:
                mask[: len(self.ids)] = self.given.get(name, True)
            if source is not None:
                chosen = later.given.get(name, np.ones(len(later), dtype=bool))
                column = column.patched(rows[chosen], source.taken(np.flatnonzero(chosen)))
                mask[rows[chosen]] = True
            columns[name] = column
            if not mask.all():
                given[name] = mask
        return ItemFrame(ids, columns, given)

    def check_ids(self, kind: str, where: str) -> None:
        """Raise DataError unless the ids are of the catalog's type, 'int' or 'str'."""
        if self.ids and isinstance(self.ids[0], str) != (kind == "str"):
            raise DataError(f"{where}: {shown(self.ids[0], 60)} is not an id; this catalog's item ids are {kind}")

    def taken(self, rows: np.ndarray) -> ItemFrame:
        """Return the frame of the rows int[m], in this order."""
        return ItemFrame(
            [self.ids[row] for row in rows.tolist()],
            {name: column.taken(rows) for name, column in self.columns.items()},
            {name: mask[rows] for name, mask in self.given.items()},
        )


def check_name(name: Any, where: str) -> None:
    """Raise DataError if a column cannot have this name."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
        raise DataError(f"{where}: {shown(name, 40)} cannot name a column; use 1 to {MAX_NAME} printable characters")


def refuse_twice(names: Sequence[Any], where: str) -> None:
    """Raise DataError if two columns have one name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{where}: there are two columns {shown(twice[0], 40)}; rename one of them")


def _columns_of(data: Any, where: str) -> tuple[dict[Any, Any], dict[Any, np.ndarray]]:
    """Return the columns of a table, and for rows that lack some, the masks of `ItemFrame.given`."""
    if isinstance(data, Mapping):
        for name, values in data.items():
            if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
                raise UsageError(f"{where}: column {shown(name, 40)} is not a list of values, one for each item")
        return dict(data), {}
    if hasattr(data, "collect") and hasattr(data, "collect_schema"):  # a LazyFrame
        data = data.collect()
    if hasattr(data, "column_names"):  # a pyarrow table
        refuse_twice(data.column_names, where)
        return {name: data.column(name).to_pylist() for name in data.column_names}, {}
    if hasattr(data, "columns"):
        refuse_twice(list(data.columns), where)
        return {name: data[name] for name in data.columns}, {}
    if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
        raise UsageError(f"{where}: give a table, a dict of columns or a list of rows, not {type(data).__name__}")
    return _columns_of_rows(list(data), where)


def _columns_of_rows(rows: list[Any], where: str) -> tuple[dict[Any, Any], dict[Any, np.ndarray]]:
    names: dict[Any, int] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: row {index + 1} is {shown(row, 40)}, not a value for each of some columns")
        for name in row:
            names[name] = names.get(name, 0) + 1
        if len(names) > MAX_COLUMNS + 1:
            raise DataError(f"{where}: there are more than {MAX_COLUMNS} columns")
    columns = {name: [row.get(name) for row in rows] for name in names}
    given = {
        name: np.array([name in row for row in rows], dtype=bool) for name, count in names.items() if count < len(rows)
    }
    return columns, given


def _checked_ids(values: Any, where: str) -> list[Any]:
    """Return ids as plain ints or strs. Raises DataError on one that is missing, wrong or there twice."""
    ids: list[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if not set(map(type, ids)) <= {int, str}:
        ids = [None if is_missing(item) else item for item in ids]
    texts = bool(ids) and isinstance(ids[0], str)
    first_rows: dict[Any, int] = {}
    for row, item in enumerate(ids):
        if item is None or (isinstance(item, str) and not item):
            raise DataError(f"{where}, row {row + 1}: the id is missing")
        if texts and isinstance(item, str):
            if len(item) > MAX_ID:
                raise DataError(f"{where}, row {row + 1}: an id of {len(item):,} characters; at most {MAX_ID}")
        elif texts or isinstance(item, bool) or not isinstance(item, (int, np.integer)):
            expected = "a text, as the first id is" if texts else "a whole number or, like all others, a text"
            raise DataError(f"{where}, row {row + 1}: {shown(item, 60)} is not {expected}")
        else:
            ids[row] = int(item)
            if not -_INT64 <= ids[row] < _INT64:
                raise DataError(f"{where}, row {row + 1}: {item} is outside 64 bits")
        first = first_rows.setdefault(item, row)
        if first != row:
            raise DataError(f"{where}, row {row + 1}: id {shown(item, 60)} is in row {first + 1} already; list it once")
    return ids


def declared(names: Sequence[str] | None, columns: Mapping[str, Any], argument: str, where: str) -> set[str]:
    """Return column names as a set. Raises UsageError if one of them does not exist."""
    if isinstance(names, str):
        raise UsageError(f"{where}: {argument} must be a list of columns, not {shown(names, 40)}")
    for name in names or ():
        if name not in columns:
            existing = ", ".join(columns) or "none"
            raise UsageError(
                f"{where}: {argument} names {shown(name, 40)}, which is no column; there are {shown(existing, 200)}"
            )
    return set(names or ())
