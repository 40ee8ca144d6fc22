"""A click log of any size as a handful of arrays: polars streams the files, texts become codes at once.

The log itself is never held, only some 16 bytes a row and the distinct texts. Every file is read twice:
first to check every row and settle the types (so that a bad row is named), then for the clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.data.readers import times
from mtaw_fast.data.readers.sources import is_parquet, one_line_errors, scan
from mtaw_fast.errors import DataError, require

_SAMPLE = 1000
_NUMBERS = ("time int", "time decimal")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a log holds what.

    owner: the session, or the user where sessions are cut by inactivity. item, time: as they say.
    type: the kind of event, or None where every row is a click; types: the kinds that are clicks.
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


@dataclass(frozen=True, slots=True, eq=False)
class ClickLog:
    """T rows of a log, in file order.

    owner: int64[T], the session or user: its own number, or, of text ids, numbers by first appearance.
    item: int32[T], a code into `item_ids`, the external ids (all int or all str).
    time: int64[T], milliseconds since 1970. click: bool[T], whether the row counts, or None where all do.
    """

    owner: np.ndarray
    item: np.ndarray
    time: np.ndarray
    click: np.ndarray | None
    item_ids: list[int] | list[str]

    def __len__(self) -> int:
        return len(self.time)

    def head(self, rows: int) -> ClickLog:
        """The first `rows` rows, as views."""
        click = None if self.click is None else self.click[:rows]
        return ClickLog(self.owner[:rows], self.item[:rows], self.time[:rows], click, self.item_ids)


@dataclass(frozen=True, slots=True)
class _Types:
    """What the first pass settled for all files: whether ids are ints, and how times are read."""

    owner_is_int: bool
    item_is_int: bool
    time_forms: tuple[str, ...]
    time_unit: str


def read_log(files: Sequence[Path], columns: Columns) -> ClickLog:
    """Read the files as one log, in that order.

    Ids are int where the column is (in a CSV: where every value is a plain integer, '007' is not), else text.
    Raises DataError, naming file, column, row and value, on a missing column, an empty cell, a time that
    cannot be read, a column type that holds no ids, or a log without a row.
    """
    types = _settle(files, columns)
    pl = require("polars", "train")
    categories = pl.Categories.random(), pl.Categories.random()
    owners, items, stamps, clicks = [], [], [], []
    texts: dict[int, str] = {}
    for path in files:
        frame, schema = _open(path, columns)
        readings = times.forms(columns.time, schema[columns.time])
        wanted = {
            "owner": _id_expression(columns.owner, types.owner_is_int, categories[0]).to_physical(),
            "item": _id_expression(columns.item, False, categories[1]),
            "time": times.milliseconds(readings, types.time_forms, types.time_unit),
        }
        if columns.type is not None:
            wanted["click"] = pl.col(columns.type).cast(pl.String).is_in(list(columns.types)).fill_null(False)
        with one_line_errors(path):
            part = frame.select(**wanted).collect(engine="streaming")
        owners.append(part["owner"].to_numpy())
        stamps.append(part["time"].to_numpy())
        if columns.type is not None:
            clicks.append(part["click"].to_numpy())
        distinct = part["item"].unique()
        texts.update(zip(distinct.to_physical().to_list(), distinct.cast(pl.String).to_list(), strict=True))
        items.append(part["item"].to_physical().to_numpy().astype(np.int32))
    ids: Any = [texts.get(code, "") for code in range(max(texts, default=-1) + 1)]
    if types.item_is_int:
        ids = [int(text) if text else 0 for text in ids]
    owner = np.concatenate(owners)
    del owners
    if not types.owner_is_int:
        owner = _by_first_appearance(owner)
    return ClickLog(
        owner.astype(np.int64, copy=False),
        np.concatenate(items),
        np.concatenate(stamps),
        np.concatenate(clicks) if columns.type is not None else None,
        ids,
    )


def _open(path: Path, columns: Columns) -> tuple[Any, Any]:
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


def _settle(files: Sequence[Path], columns: Columns) -> _Types:
    """The first pass: check every cell of every file and settle the types."""
    pl = require("polars", "train")
    totals: dict[str, int] = {}
    largest = 0.0
    for path in files:
        frame, schema = _open(path, columns)
        asked = {"rows": pl.len()}
        for role, name in (("owner", columns.owner), ("item", columns.item)):
            asked[f"{role} empty"] = _is_empty(name).sum()
            asked[f"{role} int"] = _is_plain_int(path, name, schema[name]).sum()
        readings = times.forms(columns.time, schema[columns.time])
        readable = {f"time {form}": value.is_not_null().sum() for form, value in readings.items()}
        if "decimal" in readings:
            readable["largest"] = readings["decimal"].abs().max()
        with one_line_errors(path):
            # Trying every form on every row takes longer than all else: try those of the first rows, and all
            # only where these leave a row unread.
            head = frame.head(_SAMPLE).select(**readable).collect().row(0, named=True)
            asked |= {key: readable[key] for key, count in head.items() if count or (key == "largest" and count == 0)}
            counts = frame.select(**asked).collect(engine="streaming").row(0, named=True)
            texts = sum(count for key, count in counts.items() if key.startswith("time ") and key not in _NUMBERS)
            if max(counts.get("time decimal", 0), texts) < counts["rows"]:
                counts |= frame.select(**readable).collect(engine="streaming").row(0, named=True)
        for role, name in (("owner", columns.owner), ("item", columns.item)):
            if counts[f"{role} empty"]:
                row, _ = _first(path, frame, _is_empty(name), name)
                others = counts[f"{role} empty"] - 1
                raise DataError(
                    f"{path}: column {name!r} is empty in data row {row}{f' and {others} more' if others else ''}; "
                    "fill in or remove such rows"
                )
        largest = max(largest, counts.pop("largest", None) or 0.0)
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
    else:
        unit = "ms"
    # Forms exclude one another, but for numbers, of which only one is used: the sum counts every readable row once.
    if sum(totals[f"time {form}"] for form in used if f"time {form}" in totals) != rows:
        raise _bad_time(files, columns, used, unit)
    return _Types(totals["owner int"] == rows, totals["item int"] == rows, used, unit)


def _bad_time(files: Sequence[Path], columns: Columns, used: tuple[str, ...], unit: str) -> DataError:
    """The error that names the first value of the time column that cannot be read."""
    for path in files:
        frame, schema = _open(path, columns)
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


def _id_expression(column: str, as_int: bool, categories: Any) -> Any:
    pl = require("polars", "train")
    return pl.col(column).cast(pl.Int64) if as_int else pl.col(column).cast(pl.String).cast(pl.Categorical(categories))


def _by_first_appearance(codes: np.ndarray) -> np.ndarray:
    """int64[T]: `codes` renumbered by where each first stands. Codes made by several threads vary from run to run."""
    return appearance_rank(codes, int(codes.max()) + 1)[codes]


def appearance_rank(codes: np.ndarray, n_codes: int) -> np.ndarray:
    """int64[n_codes]: the rank of each code by where it first stands in `codes`; absent ones come last."""
    first = np.full(n_codes, len(codes), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    rank = np.empty(n_codes, dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(n_codes)
    return rank
