"""The first pass over a log: every cell checked, the types of its columns settled, a bad row named."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtaw_fast.data.readers import times
from mtaw_fast.data.readers.sources import Part, one_line_errors, scan, without_broken_lines
from mtaw_fast.errors import DataError, require

# each(function, calls): `function(*call)` for every call, results in that order; raises what the first that fails did.
Each = Callable[[Callable[..., Any], Iterable[Sequence[Any]]], list[Any]]


def one_by_one(function: Callable[..., Any], calls: Iterable[Sequence[Any]]) -> list[Any]:
    """All calls in this process, in that order."""
    return [function(*call) for call in calls]


NO_CLICK = 255  # the code of a row whose type is none of those that count
_SAMPLE = 1000
_NUMBERS = ("time int", "time decimal")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a log holds what.

    owner: the session, or the user where sessions are cut by inactivity. item, time: as they say.
    type: the kind of event, or None where there is none. types: the kinds that are clicks; none: every row is one.
    time_unit: one of `times.UNITS`, of times given as numbers. separator: of CSV; None is by file name.
    bad_rows: 'refuse' or 'skip' rows that cannot be read; None refuses them where there is no such choice.
    """

    owner: str
    item: str
    time: str
    type: str | None = None
    types: tuple[str, ...] = ()
    time_unit: str = "auto"
    separator: str | None = None
    bad_rows: str | None = None

    @property
    def names(self) -> list[str]:
        """Every column that is read."""
        return [self.owner, self.item, self.time, *([self.type] if self.type is not None else [])]

    @property
    def skips(self) -> bool:
        """Whether bad rows are left out."""
        return self.bad_rows == "skip"

    @property
    def remedy(self) -> str:
        """The end of a message on a bad row."""
        return ", or leave them out with --bad-rows skip" if self.bad_rows == "refuse" else ""


@dataclass(frozen=True, slots=True)
class Settled:
    """What the first pass settled for all parts.

    owner_is_int, item_is_int: whether ids are ints. time_forms, time_unit: how times are read. names: of the types.
    sizes: those of times, [low, high), where others are bad rows; None: all. rows: of all parts, bad ones included.
    """

    owner_is_int: bool
    item_is_int: bool
    time_forms: tuple[str, ...]
    time_unit: str
    names: tuple[str, ...]
    sizes: tuple[float, float] | None
    rows: int


def settle(
    files: Sequence[Part], columns: Columns, item_ids: str, type_names: Sequence[str], each: Each = one_by_one
) -> Settled:
    """The first pass: check every cell of every part and settle the types. each: runs what is asked of the parts."""
    totals: Counter[str] = Counter()
    smallest, largest = math.inf, 0.0
    for counts in each(_counts, [(part, columns) for part in files]):
        largest = max(largest, counts.pop("largest", None) or 0.0)
        smallest = min(smallest, counts.pop("smallest", None) or math.inf)
        totals.update(counts)
    rows = totals["rows"]
    if rows == 0:
        raise DataError(f"{files[0]} holds no click, only a header; a log needs at least one click")
    used = times.family({form.removeprefix("time "): n for form, n in totals.items() if form.startswith("time ")})
    sizes = None
    if used == ("int",) and totals["time int"] == 0:
        unit = "s"
    elif used in (("int",), ("decimal",)):
        mixed = times.straddles(smallest, largest) or (columns.skips and largest >= times.TOO_LARGE)
        if mixed and not columns.skips:
            raise _two_units(files, columns)
        if mixed:
            rows_of = {name: totals[f"unit {name}"] for name in times.UNIT_NAMES}
            unit, sizes = times.unit_of_most(columns.time_unit, rows_of)
        else:
            unit = times.unit_of(columns.time_unit, largest, f"{files[0]}: column {columns.time!r}")
    else:
        unit = "ms"
    # Forms exclude one another, but for numbers, of which only one is used: the sum counts every readable row once.
    readable = sum(totals[f"time {form}"] for form in used)
    if readable != rows and not columns.skips:
        raise _bad_time(files, columns, used, unit)
    filled = {role: rows - totals[f"{role} empty"] for role in ("item", "owner")}
    items_are_int, owners_are_int = (totals[f"{role} int"] == count for role, count in filled.items())
    if columns.skips and any(0 < totals[f"{role} int"] < count for role, count in filled.items()):
        # Rows that are left out anyway, a line of totals say, do not decide what the ids of all others are.
        found = Settled(False, item_ids == "int", used, unit, (), sizes, rows)
        good: Counter[str] = Counter()
        for counts in each(_good_ints, [(part, columns, found) for part in files]):
            good.update(counts)
        items_are_int, owners_are_int = (0 < good["rows"] == good[role] for role in filled)
    if item_ids == "int" and not items_are_int and not columns.skips:
        raise _bad_item(files, columns)
    return Settled(
        owners_are_int,
        (items_are_int and item_ids != "str") or item_ids == "int",
        used,
        unit,
        _type_names(files, columns, type_names, each),
        sizes,
        rows,
    )


def _counts(part: Part, columns: Columns) -> dict[str, Any]:
    """What the first pass counts in one part; raises DataError on an empty cell where bad rows are refused."""
    pl = require("polars", "train")
    frame, schema, broken = open_part(part, columns)
    asked = {"rows": pl.len()}
    for role, name in (("owner", columns.owner), ("item", columns.item)):
        asked[f"{role} empty"] = _is_empty(name).sum()
        asked[f"{role} int"] = _is_plain_int(part, name, schema[name]).sum()
    if columns.type is not None and not columns.types:
        asked["type empty"] = _is_empty(columns.type).sum()
    if part.kind == "csv":
        # Polars finds a row with too many fields, whose cells may be others', only where it reads every column.
        asked["width"] = pl.sum_horizontal(pl.all().is_null()).sum()
    with one_line_errors(part):
        # Trying every form on every row takes longer than all else: try those of the first rows, and all
        # only where these leave a row unread.
        head = frame.head(_SAMPLE)
        readable = _readings(head, columns, schema)
        found = head.select(**readable).collect().row(0, named=True)
        numbers = found.get("largest") is not None
        sizes = [key for key in readable if key.endswith("est") or key.startswith("unit ")]
        asked |= {key: readable[key] for key, count in found.items() if count or (numbers and key in sizes)}
        counts = frame.select(**asked).collect(engine="streaming").row(0, named=True)
        texts = sum(count for key, count in counts.items() if key.startswith("time ") and key not in _NUMBERS)
        if max(counts.get("time decimal", 0), texts) < counts["rows"]:
            counts |= frame.select(**_readings(frame, columns, schema)).collect(engine="streaming").row(0, named=True)
    counts.pop("width", None)
    if not columns.skips:
        for role, column in (("owner", columns.owner), ("item", columns.item), ("type", columns.type)):
            if column is not None:
                _refuse_empty(part, frame, counts.get(f"{role} empty", 0), column, columns.remedy)
    counts["rows"] += broken
    counts["item empty"] += broken
    counts["owner empty"] += broken
    return {key: 0 if count is None and not key.endswith("est") else count for key, count in counts.items()}


def _good_ints(part: Part, columns: Columns, types: Settled) -> dict[str, int]:
    """Of the rows of a part that can be read: how many there are, and in how many items and owners are integers."""
    pl = require("polars", "train")
    frame, schema, _ = open_part(part, columns)
    asked = {"rows": pl.len()}
    for role, name in (("item", columns.item), ("owner", columns.owner)):
        asked[role] = _is_plain_int(part, name, schema[name]).sum()
    with one_line_errors(part):
        rows = frame.filter(good_rows(part, columns, schema, types))
        counts = rows.select(**asked).collect(engine="streaming").row(0, named=True)
    return {role: count or 0 for role, count in counts.items()}


def _readings(frame: Any, columns: Columns, schema: Any) -> dict[str, Any]:
    """What is counted of the time column: values of each form, and of numbers their sizes and units."""
    pl = require("polars", "train")
    zones = times.zones_of(frame, columns.time) if times.is_text(schema[columns.time]) else []
    readings = times.forms(columns.time, schema[columns.time], zones)
    counted = {f"time {form}": value.is_not_null().sum() for form, value in readings.items()}
    if "decimal" in readings:
        size = readings["decimal"].abs()
        counted |= {"largest": size.max(), "smallest": pl.when(size > 0).then(size).min()}
        if columns.skips:
            counted |= {f"unit {unit}": fits.sum() for unit, fits in times.unit_conditions(size).items()}
    return counted


def good_rows(part: Part, columns: Columns, schema: Any, types: Settled) -> Any:
    """A polars condition: the rows that can be read."""
    pl = require("polars", "train")
    readings = times.forms(columns.time, schema[columns.time], times.zones_in(types.time_forms))
    good = ~_is_empty(columns.owner) & ~_is_empty(columns.item)
    good &= times.milliseconds(readings, types.time_forms, types.time_unit).is_not_null()
    if columns.type is not None and not columns.types:
        good &= ~_is_empty(columns.type)
    if types.item_is_int:
        good &= _is_plain_int(part, columns.item, schema[columns.item])
    if types.sizes is not None:
        size = readings[types.time_forms[0]].cast(pl.Float64).abs()
        good &= (size == 0) | ((size >= types.sizes[0]) & (size < types.sizes[1]))
    return good.fill_null(False)


def open_part(part: Part, columns: Columns) -> tuple[Any, Any, int]:
    """The lazy frame of a part, its schema, and how many of its lines are not in the frame, being no JSON.

    Raises DataError where a column is missing or of no use.
    """
    broken = 0
    try:
        frame = scan(part, columns.separator)
        with one_line_errors(part):
            schema = frame.collect_schema()
    except DataError:
        if part.kind != "json" or not isinstance(part.source, Path) or not columns.skips:
            raise
        frame, broken = without_broken_lines(part)
        schema = frame.collect_schema()
    for name in columns.names:
        if name not in schema:
            shown = ", ".join(map(repr, list(schema)[:20])) + (", ..." if len(schema) > 20 else "")
            raise DataError(
                f"{part} has no column {name!r}; it has {shown}; name the right column or the right separator"
            )
        if f"{name}_duplicated_0" in schema:
            raise DataError(f"{part} has two columns {name!r}; rename one of them")
    for name in (columns.owner, columns.item):
        dtype = schema[name]
        if not (dtype.is_integer() or times.is_text(dtype)):
            raise DataError(f"{part}: column {name!r} holds {dtype}; ids must be integers or text, so cast it first")
    if not times.forms(columns.time, schema[columns.time]):
        raise DataError(
            f"{part}: column {columns.time!r} holds {schema[columns.time]}; times must be epoch numbers, ISO-8601 "
            "text or a datetime, so cast it first"
        )
    return frame, schema, broken


def _type_names(files: Sequence[Part], columns: Columns, first: Sequence[str], each: Each) -> tuple[str, ...]:
    """The names that the codes of the types stand for: `first`, then the types that count."""
    if columns.type is None:
        return ()
    asked = [(part, columns) for part in files] if not columns.types else []
    found = set().union(*each(_types_in, asked))
    names = tuple(dict.fromkeys((*first, *(columns.types or sorted(found)))))
    if len(names) > NO_CLICK:
        raise DataError(
            f"{files[0]}: column {columns.type!r} holds more than {NO_CLICK} types; name those that count as clicks "
            "or leave the column out"
        )
    return names


def _types_in(part: Part, columns: Columns) -> set[str]:
    """The types in one part, or so many that it is plain that there are too many."""
    pl = require("polars", "train")
    with one_line_errors(part):
        distinct = open_part(part, columns)[0].select(pl.col(columns.type).cast(pl.String).unique())
        texts = distinct.head(NO_CLICK + 1).collect(engine="streaming")[columns.type].to_list()
    return {text for text in texts if text}


def _refuse_empty(part: Part, frame: Any, count: int, name: str, remedy: str) -> None:
    """Raise DataError, naming the first such row, where `count` cells of the column are empty."""
    if count:
        row, _ = _first(part, frame, _is_empty(name), name)
        raise DataError(
            f"{part}: column {name!r} is empty in data row {row}{f' and {count - 1} more' if count > 1 else ''}; "
            f"fill in or remove such rows{remedy}"
        )


def _two_units(files: Sequence[Part], columns: Columns) -> DataError:
    """The error that names the first time of each of two units."""
    found: dict[str, str] = {}
    for part in files:
        frame, schema, _ = open_part(part, columns)
        size = times.forms(columns.time, schema[columns.time])["decimal"].abs()
        fits = times.unit_conditions(size)
        fits["ns"] |= size >= times.TOO_LARGE  # of no unit, as `straddles` sees it of the last one
        for unit, condition in fits.items():
            row, value = _first(part, frame, condition, columns.time)
            if row and unit not in found:
                found[unit] = f"{value} in data row {row}{f' of {Path(part.where).name}' if len(files) > 1 else ''}"
    (one, first), (other, second) = [(unit, found[unit]) for unit in times.UNIT_NAMES if unit in found][:2]
    return DataError(
        f"{files[0] if len(files) == 1 else Path(files[0].where).parent}: column {columns.time!r} mixes units: {first} "
        f"is {times.UNIT_NAMES[one]} since 1970, {second} {times.UNIT_NAMES[other]}; write every time in one unit"
        f"{', or leave the few out with --bad-rows skip' if columns.remedy else ''}"
    )


def _bad_item(files: Sequence[Part], columns: Columns) -> DataError:
    """The error that names the first item id that is no integer."""
    for part in files:
        frame, schema, _ = open_part(part, columns)
        row, value = _first(part, frame, ~_is_plain_int(part, columns.item, schema[columns.item]), columns.item)
        if row:
            return DataError(
                f"{part}: column {columns.item!r} holds {value!r:.60} in data row {row}, but the catalog's are ints; "
                f"remove such rows or read the log that the catalog was made from{columns.remedy}"
            )
    raise AssertionError("the counts found an id that is no integer, the search did not")


def _bad_time(files: Sequence[Part], columns: Columns, used: tuple[str, ...], unit: str) -> DataError:
    """The error that names the first value of the time column that cannot be read."""
    for part in files:
        frame, schema, _ = open_part(part, columns)
        readings = times.forms(columns.time, schema[columns.time], times.zones_in(used))
        reading = times.milliseconds(readings, used, unit)
        row, value = _first(part, frame, reading.is_null(), columns.time)
        if row and (value is None or value == ""):
            return DataError(
                f"{part}: column {columns.time!r} is empty in data row {row}; fill in or remove such "
                f"rows{columns.remedy}"
            )
        if row:
            what = "an epoch number" if used[0] in ("int", "decimal") else "an ISO-8601 time"
            return DataError(
                f"{part}: column {columns.time!r} holds {value!r} in data row {row}, not {what}; write every time as "
                f"epoch seconds, epoch milliseconds or like 2024-05-01T12:30:00Z, or remove the row{columns.remedy}"
            )
    raise AssertionError("the counts found a bad time that the search did not")


def _first(part: Part, frame: Any, condition: Any, column: str) -> tuple[int, Any]:
    """The 1-based data row of the first row where `condition` holds, and its value; (0, None) where none does."""
    pl = require("polars", "train")
    with one_line_errors(part):
        numbered = frame.select(pl.col(column)).with_row_index(f"row of {column}")
        found = numbered.filter(condition).head(1).collect(engine="streaming")
    return (found.item(0, 0) + 1, found.item(0, 1)) if len(found) else (0, None)


def _is_empty(column: str) -> Any:
    pl = require("polars", "train")
    return pl.col(column).is_null() | (pl.col(column).cast(pl.String) == "")


def _is_plain_int(part: Part, column: str, dtype: Any) -> Any:
    """Whether a value is, or in a CSV reads back as, an integer. Elsewhere texts stay texts."""
    pl = require("polars", "train")
    value = pl.col(column)
    if part.is_typed and not dtype.is_integer():
        return pl.lit(False)
    return value.cast(pl.Int64, strict=False).cast(pl.String) == value.cast(pl.String)
