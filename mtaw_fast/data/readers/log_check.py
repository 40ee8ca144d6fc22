"""The first pass over a log: every cell checked, the types of its columns settled, a bad row named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtaw_fast.data.readers import times
from mtaw_fast.data.readers.sources import is_parquet, one_line_errors, scan
from mtaw_fast.errors import DataError, require

NO_CLICK = 255  # the code of a row whose type is none of those that count
_SAMPLE = 1000
_NUMBERS = ("time int", "time decimal")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a log holds what.

    owner: the session, or the user where sessions are cut by inactivity. item, time: as they say.
    type: the kind of event, or None where there is none. types: the kinds that are clicks; none: every row is one.
    time_unit: 'auto', 's' or 'ms', of times given as numbers. separator: of CSV; None is by file name.
    """

    owner: str
    item: str
    time: str
    type: str | None = None
    types: tuple[str, ...] = ()
    time_unit: str = "auto"
    separator: str | None = None

    @property
    def names(self) -> list[str]:
        """Every column that is read."""
        return [self.owner, self.item, self.time, *([self.type] if self.type is not None else [])]


@dataclass(frozen=True, slots=True)
class Settled:
    """What the first pass settled for all files: whether ids are ints, how times are read, the names of the types."""

    owner_is_int: bool
    item_is_int: bool
    time_forms: tuple[str, ...]
    time_unit: str
    names: tuple[str, ...]


def settle(files: Sequence[Path], columns: Columns, item_ids: str, type_names: Sequence[str]) -> Settled:
    """The first pass: check every cell of every file and settle the types."""
    pl = require("polars", "train")
    totals: dict[str, int] = {}
    smallest, largest = math.inf, 0.0
    for path in files:
        frame, schema = open_part(path, columns)
        asked = {"rows": pl.len()}
        for role, name in (("owner", columns.owner), ("item", columns.item)):
            asked[f"{role} empty"] = _is_empty(name).sum()
            asked[f"{role} int"] = _is_plain_int(path, name, schema[name]).sum()
        if columns.type is not None and not columns.types:
            asked["type empty"] = _is_empty(columns.type).sum()
        readings = times.forms(columns.time, schema[columns.time])
        readable = {f"time {form}": value.is_not_null().sum() for form, value in readings.items()}
        if "decimal" in readings:
            size = readings["decimal"].abs()
            readable |= {"largest": size.max(), "smallest": pl.when(size > 0).then(size).min()}
        with one_line_errors(path):
            # Trying every form on every row takes longer than all else: try those of the first rows, and all
            # only where these leave a row unread.
            head = frame.head(_SAMPLE).select(**readable).collect().row(0, named=True)
            numbers = head.get("largest") is not None
            asked |= {key: readable[key] for key, count in head.items() if count or (numbers and key.endswith("est"))}
            counts = frame.select(**asked).collect(engine="streaming").row(0, named=True)
            texts = sum(count for key, count in counts.items() if key.startswith("time ") and key not in _NUMBERS)
            if max(counts.get("time decimal", 0), texts) < counts["rows"]:
                counts |= frame.select(**readable).collect(engine="streaming").row(0, named=True)
        for role, name in (("owner", columns.owner), ("item", columns.item)):
            _refuse_empty(path, frame, counts[f"{role} empty"], name)
        if columns.type is not None and not columns.types:
            _refuse_empty(path, frame, counts.pop("type empty"), columns.type)
        largest = max(largest, counts.pop("largest", None) or 0.0)
        smallest = min(smallest, counts.pop("smallest", None) or math.inf)
        for key, count in counts.items():
            totals[key] = totals.get(key, 0) + count
    rows = totals["rows"]
    if rows == 0:
        raise DataError(f"{files[0]} holds no click, only a header; a log needs at least one click")
    used = times.family({form.removeprefix("time "): n for form, n in totals.items() if form.startswith("time ")})
    if used == ("int",) and totals.get("time int", 0) == 0:
        unit = "s"
    elif used in (("int",), ("decimal",)):
        unit = times.unit_of(columns.time_unit, largest, f"{files[0]}: column {columns.time!r}")
        if times.straddles(smallest, largest):
            raise _two_units(files, columns)
    else:
        unit = "ms"
    # Forms exclude one another, but for numbers, of which only one is used: the sum counts every readable row once.
    if sum(totals[f"time {form}"] for form in used if f"time {form}" in totals) != rows:
        raise _bad_time(files, columns, used, unit)
    items_are_int = totals["item int"] == rows
    if item_ids == "int" and not items_are_int:
        raise _bad_item(files, columns)
    return Settled(
        totals["owner int"] == rows,
        items_are_int and item_ids != "str",
        used,
        unit,
        _type_names(files, columns, type_names),
    )


def open_part(path: Path, columns: Columns) -> tuple[Any, Any]:
    """The lazy frame of a file and its schema; raises DataError where a column is missing or of no use."""
    pl = require("polars", "train")
    frame = scan(path, columns.separator)
    with one_line_errors(path):
        schema = frame.collect_schema()
    for name in columns.names:
        if name not in schema:
            shown = ", ".join(map(repr, list(schema)[:20])) + (", ..." if len(schema) > 20 else "")
            raise DataError(
                f"{path} has no column {name!r}; it has {shown}; name the right column or the right separator"
            )
        if f"{name}_duplicated_0" in schema:
            raise DataError(f"{path} has two columns {name!r}; rename one of them")
    for name in (columns.owner, columns.item):
        dtype = schema[name]
        if not (dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum)):
            raise DataError(f"{path}: column {name!r} holds {dtype}; ids must be integers or text, so cast it first")
    if not times.forms(columns.time, schema[columns.time]):
        raise DataError(
            f"{path}: column {columns.time!r} holds {schema[columns.time]}; times must be epoch numbers, ISO-8601 "
            "text or a datetime, so cast it first"
        )
    return frame, schema


def _type_names(files: Sequence[Path], columns: Columns, first: Sequence[str]) -> tuple[str, ...]:
    """The names that the codes of the types stand for: `first`, then the types that count."""
    if columns.type is None:
        return ()
    pl = require("polars", "train")
    found: set[str] = set()
    for path in files if not columns.types else ():
        with one_line_errors(path):
            distinct = open_part(path, columns)[0].select(pl.col(columns.type).cast(pl.String).unique())
            found.update(distinct.head(NO_CLICK + 1).collect(engine="streaming")[columns.type].to_list())
    names = tuple(dict.fromkeys((*first, *(columns.types or sorted(found)))))
    if len(names) > NO_CLICK:
        raise DataError(
            f"{files[0]}: column {columns.type!r} holds more than {NO_CLICK} types; name those that count as clicks "
            "or leave the column out"
        )
    return names


def _refuse_empty(path: Path, frame: Any, count: int, name: str) -> None:
    """Raise DataError, naming the first such row, where `count` cells of the column are empty."""
    if count:
        row, _ = _first(path, frame, _is_empty(name), name)
        raise DataError(
            f"{path}: column {name!r} is empty in data row {row}{f' and {count - 1} more' if count > 1 else ''}; "
            "fill in or remove such rows"
        )


def _two_units(files: Sequence[Path], columns: Columns) -> DataError:
    """The error that names the first time that must be seconds and the first that must be milliseconds."""
    found: dict[str, str] = {}
    for path in files:
        frame, schema = open_part(path, columns)
        size = times.forms(columns.time, schema[columns.time])["decimal"].abs()
        for unit, condition in times.unit_conditions(size).items():
            row, value = _first(path, frame, condition, columns.time)
            if row and unit not in found:
                found[unit] = f"{value} in data row {row}{f' of {path.name}' if len(files) > 1 else ''}"
    return DataError(
        f"{files[0] if len(files) == 1 else files[0].parent}: column {columns.time!r} mixes units: {found['s']} is "
        f"seconds since 1970, {found['ms']} milliseconds; write every time in one unit"
    )


def _bad_item(files: Sequence[Path], columns: Columns) -> DataError:
    """The error that names the first item id that is no integer."""
    for path in files:
        frame, schema = open_part(path, columns)
        row, value = _first(path, frame, ~_is_plain_int(path, columns.item, schema[columns.item]), columns.item)
        if row:
            return DataError(
                f"{path}: column {columns.item!r} holds {value!r:.60} in data row {row}, but the catalog's are ints; "
                "remove such rows or read the log that the catalog was made from"
            )
    raise AssertionError("the counts found an id that is no integer, the search did not")


def _bad_time(files: Sequence[Path], columns: Columns, used: tuple[str, ...], unit: str) -> DataError:
    """The error that names the first value of the time column that cannot be read."""
    for path in files:
        frame, schema = open_part(path, columns)
        reading = times.milliseconds(times.forms(columns.time, schema[columns.time]), used, unit)
        row, value = _first(path, frame, reading.is_null(), columns.time)
        if row and (value is None or value == ""):
            return DataError(f"{path}: column {columns.time!r} is empty in data row {row}; fill in or remove such rows")
        if row:
            what = "an epoch number" if used[0] in ("int", "decimal") else "an ISO-8601 time"
            return DataError(
                f"{path}: column {columns.time!r} holds {value!r} in data row {row}, not {what}; write every time as "
                "epoch seconds, epoch milliseconds or like 2024-05-01T12:30:00Z, or remove the row"
            )
    raise AssertionError("the counts found a bad time that the search did not")


def _first(path: Path, frame: Any, condition: Any, column: str) -> tuple[int, Any]:
    """The 1-based data row of the first row where `condition` holds, and its value; (0, None) where none does."""
    pl = require("polars", "train")
    with one_line_errors(path):
        numbered = frame.select(pl.col(column)).with_row_index(f"row of {column}")
        found = numbered.filter(condition).head(1).collect(engine="streaming")
    return (found.item(0, 0) + 1, found.item(0, 1)) if len(found) else (0, None)


def _is_empty(column: str) -> Any:
    pl = require("polars", "train")
    return pl.col(column).is_null() | (pl.col(column).cast(pl.String) == "")


def _is_plain_int(path: Path, column: str, dtype: Any) -> Any:
    """Whether a value is, or in a CSV reads back as, an integer. Parquet has types: its texts stay texts."""
    pl = require("polars", "train")
    value = pl.col(column)
    if is_parquet(path) and not dtype.is_integer():
        return value.is_null()  # empty cells have been refused: never true
    return value.cast(pl.Int64, strict=False).cast(pl.String) == value.cast(pl.String)
