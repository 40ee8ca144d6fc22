"""The first pass over a log: every cell checked, the types of its columns settled, a bad row named."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtaw_fast.data.readers import times
from mtaw_fast.data.readers.context_codes import check_context_columns
from mtaw_fast.data.readers.json_lines import events_of, line_of_row, one_row_an_event
from mtaw_fast.data.readers.sources import SKIPPING, Part, one_line_errors, scan_readable
from mtaw_fast.errors import DataError, require

# run(function, calls) returns the results of `function(*call)`, in order, and raises the error of the first that fails.
TaskRunner = Callable[[Callable[..., Any], Iterable[Sequence[Any]]], list[Any]]


def run_serially(function: Callable[..., Any], calls: Iterable[Sequence[Any]]) -> list[Any]:
    """Run all calls in this process, one after the other."""
    return [function(*call) for call in calls]


NO_CLICK = 255  # type code of a row that does not count
_SAMPLE = 1000  # first rows of a part, by which the forms of times are chosen
_NUMBERS = ("time int", "time decimal")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a log and how to read them.

    owner: column of the session id, or of the user id if sessions are cut by inactivity. item, time: columns of the
    item id and the time. type: column of the event type, or None. types: the types that count as clicks; empty: all.
    time_unit: one of `times.UNITS`, for numeric times. separator: of CSV; None: by the file name.
    bad_rows: 'refuse' or 'skip' unreadable rows; None refuses them, in formats without that option. context: columns of
    the visits' context.
    """

    owner: str
    item: str
    time: str
    type: str | None = None
    types: tuple[str, ...] = ()
    time_unit: str = "auto"
    separator: str | None = None
    bad_rows: str | None = None
    context: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of all columns that are read."""
        return [self.owner, self.item, self.time, *([self.type] if self.type is not None else []), *self.context]

    @property
    def counted(self) -> Any:
        """The polars condition of the rows that count as clicks by their type."""
        pl = require("polars", "train")
        if self.type is None or not self.types:
            return pl.lit(True)
        return pl.col(self.type).cast(pl.String).is_in(list(self.types)).fill_null(False)

    @property
    def skips(self) -> bool:
        """Whether bad rows are skipped."""
        return self.bad_rows == "skip"

    @property
    def remedy(self) -> str:
        """The end of a message about a bad row."""
        return SKIPPING if self.bad_rows == "refuse" else ""


@dataclass(frozen=True, slots=True)
class LogSchema:
    """The column types that the first pass found, for all parts.

    owner_is_int, item_is_int: whether the ids are ints. time_forms, time_unit: how to read times. names: of the types.
    sizes: [low, high), numeric times outside it are bad rows; None: no such bound. rows: rows of all parts, with the
    bad ones. counted: those of them whose type counts as a click.
    """

    owner_is_int: bool
    item_is_int: bool
    time_forms: tuple[str, ...]
    time_unit: str
    names: tuple[str, ...]
    sizes: tuple[float, float] | None
    rows: int
    counted: int


def check_log(
    files: Sequence[Part],
    columns: Columns,
    item_ids: str,
    type_names: Sequence[str],
    run_tasks: TaskRunner = run_serially,
) -> LogSchema:
    """Check every cell of every part and find the column types: the first pass. run_tasks: runs a task per part.

    Rows of types that do not count are not checked: a search without an item is no bad click.
    """
    totals: Counter[str] = Counter()
    smallest, largest = math.inf, 0.0
    kinds: set[str] = set()
    for counts in run_tasks(_counts, [(part, columns) for part in files]):
        kinds.update(filter(None, counts.pop("types")))
        largest = max(largest, counts.pop("largest", None) or 0.0)
        smallest = min(smallest, counts.pop("smallest", None) or math.inf)
        totals.update(counts)
    rows, clicks = totals["rows"], totals["counted"]
    if rows == 0:
        raise DataError(f"{files[0]} has no click, only a header; a log needs at least one click")
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
    # The forms exclude each other, except those of numbers, of which one is used. So the sum counts a row once.
    readable = sum(totals[f"time {form}"] for form in used)
    if readable != clicks and not columns.skips:
        raise _bad_time(files, columns, used, unit)
    filled = {role: clicks - totals[f"{role} empty"] for role in ("item", "owner")}
    items_are_int, owners_are_int = (totals[f"{role} int"] == count for role, count in filled.items())
    if columns.skips and any(0 < totals[f"{role} int"] < count for role, count in filled.items()):
        # Rows that are skipped, such as a line of totals, must not decide the type of the ids.
        found = LogSchema(False, item_ids == "int", used, unit, (), sizes, rows, clicks)
        good: Counter[str] = Counter()
        for counts in run_tasks(_good_ints, [(part, columns, found) for part in files]):
            good.update(counts)
        items_are_int, owners_are_int = (0 < good["rows"] == good[role] for role in filled)
    if item_ids == "int" and not items_are_int and not columns.skips:
        raise _bad_item(files, columns)
    return LogSchema(
        owners_are_int,
        (items_are_int and item_ids != "str") or item_ids == "int",
        used,
        unit,
        _type_names(files, columns, type_names, kinds),
        sizes,
        rows,
        clicks,
    )


def _counts(part: Part, columns: Columns) -> dict[str, Any]:
    """Return the counts of the first pass over one part, and its `types`, at most one more than allowed.

    Raises DataError on an empty cell if bad rows are refused.
    """
    pl = require("polars", "train")
    frame, schema, broken = open_part(part, columns)
    counted = columns.counted
    asked = {"rows": pl.len(), "counted": pl.len() if not columns.types else counted.sum()}
    for role, name in (("owner", columns.owner), ("item", columns.item)):
        asked[f"{role} empty"] = (_is_empty(name) & counted).sum()
        asked[f"{role} int"] = (_is_plain_int(part, name, schema[name]) & counted).sum()
    if columns.type is not None and not columns.types:
        asked["type empty"] = _is_empty(columns.type).sum()
    if part.kind == "csv":
        # Polars notices a row with too many fields, whose cells may be shifted, only if it reads every column.
        asked["width"] = pl.sum_horizontal(pl.all().is_null()).sum()
    with one_line_errors(part, columns.bad_rows):
        # Trying every form on every row takes longer than everything else. So try the forms of the first rows, and all
        # of them only if these leave a row unread.
        head = frame.head(_SAMPLE)
        readable = _readings(head, columns, schema)
        found = head.select(**readable).collect().row(0, named=True)
        numbers = found.get("largest") is not None
        sizes = [key for key in readable if key.endswith("est") or key.startswith("unit ")]
        asked |= {key: readable[key] for key, count in found.items() if count or (numbers and key in sizes)}
        queries = [frame.select(**asked)]
        if columns.type is not None and not columns.types:
            queries.append(frame.select(pl.col(columns.type).cast(pl.String).unique()).head(NO_CLICK + 1))
        counted_rows, *types = pl.collect_all(queries, engine="streaming")  # the queries share one reading
        counts = counted_rows.row(0, named=True)
        texts = sum(count for key, count in counts.items() if key.startswith("time ") and key not in _NUMBERS)
        if max(counts.get("time decimal", 0), texts) < counts["counted"]:
            counts |= frame.select(**_readings(frame, columns, schema)).collect(engine="streaming").row(0, named=True)
    counts.pop("width", None)
    if not columns.skips:
        for role, column in (("owner", columns.owner), ("item", columns.item), ("type", columns.type)):
            if column is not None:
                _refuse_empty(part, counts.get(f"{role} empty", 0), column, columns)
    counts["rows"] += broken
    counts["counted"] += broken
    counts["item empty"] += broken
    counts["owner empty"] += broken
    filled = {key: 0 if count is None and not key.endswith("est") else count for key, count in counts.items()}
    return {**filled, "types": types[0].to_series().to_list() if types else []}


def _good_ints(part: Part, columns: Columns, types: LogSchema) -> dict[str, int]:
    """Count the readable rows of a part, and those whose item and owner are integers."""
    pl = require("polars", "train")
    frame, schema, _ = open_part(part, columns)
    asked = {"rows": pl.len()}  # those that count
    for role, name in (("item", columns.item), ("owner", columns.owner)):
        asked[role] = _is_plain_int(part, name, schema[name]).sum()
    with one_line_errors(part, columns.bad_rows):
        rows = frame.filter(good_rows(part, columns, schema, types) & columns.counted)
        counts = rows.select(**asked).collect(engine="streaming").row(0, named=True)
    return {role: count or 0 for role, count in counts.items()}


def _readings(frame: Any, columns: Columns, schema: Any) -> dict[str, Any]:
    """Return the counts to take of the time column: values of each form, and the sizes and units of numbers."""
    pl = require("polars", "train")
    zones = times.zones_of(frame, columns.time) if times.is_text(schema[columns.time]) else []
    readings = times.forms(columns.time, schema[columns.time], zones)
    clicks = columns.counted
    found = {f"time {form}": (value.is_not_null() & clicks).sum() for form, value in readings.items()}
    if "decimal" in readings:
        size = readings["decimal"].abs()
        if columns.types:
            size = pl.when(clicks).then(size)
        found |= {"largest": size.max(), "smallest": pl.when(size > 0).then(size).min()}
        if columns.skips:
            found |= {f"unit {unit}": fits.sum() for unit, fits in times.unit_conditions(size).items()}
    return found


def placeable_rows(part: Part, columns: Columns, schema: Any, types: LogSchema) -> Any:
    """Return the polars condition of the rows that have an owner and a time, as rows need that only bridge gaps."""
    readings = times.forms(columns.time, schema[columns.time], times.zones_in(types.time_forms))
    found = ~_is_empty(columns.owner)
    found &= times.milliseconds(readings, types.time_forms, types.time_unit).is_not_null()
    if types.owner_is_int:
        found &= _is_plain_int(part, columns.owner, schema[columns.owner])
    return found.fill_null(False)


def good_rows(part: Part, columns: Columns, schema: Any, types: LogSchema) -> Any:
    """Return the polars condition of the readable rows, as if all counted."""
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
    """Return the lazy frame of a part, its schema, and the number of lines left out because they are no objects.

    Raises DataError if a column is missing or has an unusable type.
    """
    frame, broken = scan_readable(part, columns.separator, columns.bad_rows)
    with one_line_errors(part, columns.bad_rows):
        frame = one_row_an_event(frame, columns.item)
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
    check_context_columns(columns.context, schema, str(part))
    if not times.forms(columns.time, schema[columns.time]):
        raise DataError(
            f"{part}: column {columns.time!r} holds {schema[columns.time]}; times must be epoch numbers, ISO-8601 "
            "text or a datetime, so cast it first"
        )
    return frame, schema, broken


def _type_names(
    files: Sequence[Part], columns: Columns, first: Sequence[str], found: Collection[str]
) -> tuple[str, ...]:
    """Return the names of the type codes: `first`, then the types that count. found: in the log, unless they are
    chosen."""
    if columns.type is None:
        return ()
    names = tuple(dict.fromkeys((*first, *(columns.types or sorted(found)))))
    if len(names) > NO_CLICK:
        raise DataError(
            f"{files[0]}: column {columns.type!r} holds more than {NO_CLICK} types; name those that count as clicks "
            "or leave the column out"
        )
    return names


def _refuse_empty(part: Part, count: int, name: str, columns: Columns) -> None:
    """Raise DataError, naming the first row, if `count` cells of the column are empty."""
    if count:
        row, _ = _first(part, columns, _is_empty(name) & columns.counted, name)
        raise DataError(
            f"{part}: column {name!r} is empty in {row}{f' and {count - 1} more' if count > 1 else ''}; "
            f"fill in or remove such rows{columns.remedy}"
        )


def _two_units(files: Sequence[Part], columns: Columns) -> DataError:
    """Return the error that names the first time of each of two units."""
    found: dict[str, str] = {}
    for part in files:
        schema = open_part(part, columns)[1]
        size = times.forms(columns.time, schema[columns.time])["decimal"].abs()
        fits = times.unit_conditions(size)
        fits["ns"] |= size >= times.TOO_LARGE  # such a number has no unit; `straddles` counts it as ns
        for unit, condition in fits.items():
            row, value = _first(part, columns, condition & columns.counted, columns.time)
            if row and unit not in found:
                found[unit] = f"{value} in {row}{f' of {Path(part.where).name}' if len(files) > 1 else ''}"
    (one, first), (other, second) = [(unit, found[unit]) for unit in times.UNIT_NAMES if unit in found][:2]
    return DataError(
        f"{files[0] if len(files) == 1 else Path(files[0].where).parent}: column {columns.time!r} mixes units: {first} "
        f"is {times.UNIT_NAMES[one]} since 1970, {second} {times.UNIT_NAMES[other]}; write every time in one unit"
        f"{', or leave the few out with --bad-rows skip' if columns.remedy else ''}"
    )


def _bad_item(files: Sequence[Part], columns: Columns) -> DataError:
    """Return the error that names the first item id that is not an integer."""
    for part in files:
        schema = open_part(part, columns)[1]
        odd = ~_is_plain_int(part, columns.item, schema[columns.item]) & columns.counted
        row, value = _first(part, columns, odd, columns.item)
        if row:
            return DataError(
                f"{part}: column {columns.item!r} holds {value!r:.60} in {row}, but the catalog's ids are ints; "
                f"remove such rows or read the log that the catalog was made from{columns.remedy}"
            )
    raise AssertionError("the counts found an id that is not an integer, the search did not")


def _bad_time(files: Sequence[Part], columns: Columns, used: tuple[str, ...], unit: str) -> DataError:
    """Return the error that names the first unreadable value of the time column."""
    for part in files:
        schema = open_part(part, columns)[1]
        readings = times.forms(columns.time, schema[columns.time], times.zones_in(used))
        reading = times.milliseconds(readings, used, unit)
        row, value = _first(part, columns, reading.is_null() & columns.counted, columns.time)
        if row and (value is None or value == ""):
            return DataError(
                f"{part}: column {columns.time!r} is empty in {row}; fill in or remove such rows{columns.remedy}"
            )
        if row:
            what = "an epoch number" if used[0] in ("int", "decimal") else "an ISO-8601 time"
            return DataError(
                f"{part}: column {columns.time!r} holds {value!r} in {row}, not {what}; write every time as "
                f"epoch seconds, epoch milliseconds or like 2024-05-01T12:30:00Z, or remove the row{columns.remedy}"
            )
    raise AssertionError("the counts found a bad time that the search did not")


def _first(part: Part, columns: Columns, condition: Any, column: str) -> tuple[str, Any]:
    """Return where the first row is that fulfills `condition`, such as 'data row 3', and its value; ('', None) without
    one. In a log of sessions with lists of events it is the session's row, or its line in a file of JSON lines."""
    with one_line_errors(part, columns.bad_rows):
        number, (frame, _) = f"row of {column}", scan_readable(part, columns.separator, columns.bad_rows)
        has_sessions = events_of(frame.collect_schema(), columns.item) is not None
        rows = one_row_an_event(frame.with_row_index(number), columns.item)
        found = rows.filter(condition).select(number, column).head(1).collect(engine="streaming")
        if len(found) == 0:
            return "", None
        row, value = found.row(0)
        if has_sessions and part.has_lines:
            return f"line {line_of_row(part.source, row)}", value
    return f"{'row' if has_sessions else 'data row'} {row + 1}", value


def _is_empty(column: str) -> Any:
    pl = require("polars", "train")
    return pl.col(column).is_null() | (pl.col(column).cast(pl.String) == "")


def _is_plain_int(part: Part, column: str, dtype: Any) -> Any:
    """Return the condition that a value is an integer, or, in a CSV, the text of one. Elsewhere texts stay texts."""
    pl = require("polars", "train")
    value = pl.col(column)
    if part.is_typed and not dtype.is_integer():
        return pl.lit(False)
    return value.cast(pl.Int64, strict=False).cast(pl.String) == value.cast(pl.String)
