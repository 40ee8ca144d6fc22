"""The first pass over a log: every cell checked, and the types of its columns settled."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mtaw_fast.data.readers import times
from mtaw_fast.data.readers.bad_rows import bad_item, bad_time, refuse_empty, two_units
from mtaw_fast.data.readers.options import ClickOptions
from mtaw_fast.data.readers.sources import Part, is_empty, is_plain_int, one_line_errors, open_part
from mtaw_fast.errors import DataError, EmptyLogError, nearest, require

# run(function, calls) returns the results of `function(*call)`, in order, and raises the error of the first that fails.
TaskRunner = Callable[[Callable[..., Any], Iterable[Sequence[Any]]], list[Any]]


def run_serially(function: Callable[..., Any], calls: Iterable[Sequence[Any]]) -> list[Any]:
    """Run all calls in this process, one after the other."""
    return [function(*call) for call in calls]


_LOG = logging.getLogger("mtaw_fast.data")
NO_CLICK = 255  # type code of a row that does not count
_SAMPLE = 1000  # first rows of a part, by which the forms of times are chosen
_NUMBERS = ("time int", "time decimal")


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
    options: ClickOptions,
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
    for counts in run_tasks(_counts, [(part, options) for part in files]):
        kinds.update(filter(None, counts.pop("types")))
        largest = max(largest, counts.pop("largest", None) or 0.0)
        smallest = min(smallest, counts.pop("smallest", None) or math.inf)
        totals.update(counts)
    rows, clicks = totals["rows"], totals["counted"]
    absent = [name for name in options.types if name not in kinds]
    if rows == 0:
        raise EmptyLogError(f"{files[0]} has no click, only a header; a log needs at least one click")
    if options.types and len(absent) == len(options.types):
        never = f"{files[0]}: column {options.type!r} is never {' or '.join(map(repr, absent))}"
        if not kinds:
            raise DataError(f"{never}, it is empty; name the column of the types with --type, or leave --types out")
        listing = f"{', '.join(map(repr, sorted(kinds)[:20]))}{', ..' if len(kinds) > 20 else ''}"
        raise DataError(f"{never}; name some of its values with --types: {listing}{nearest(absent[0], kinds)}")
    used = times.family({form.removeprefix("time "): n for form, n in totals.items() if form.startswith("time ")})
    if times.NO_ZONE & set(used):
        _LOG.warning(
            "%s: times of column %r without a zone are taken as UTC; if they are local times, add the offset, such as "
            "+01:00", files[0], options.time,
        )  # fmt: skip
    sizes = None
    if used == ("int",) and totals["time int"] == 0:
        unit = "s"
    elif used in (("int",), ("decimal",)):
        mixed = times.straddles(smallest, largest) or (options.skips and largest >= times.TOO_LARGE)
        if mixed and not options.skips:
            raise two_units(files, options)
        if mixed:
            rows_of = {name: totals[f"unit {name}"] for name in times.UNIT_NAMES}
            unit, sizes = times.unit_of_most(options.time_unit, rows_of)
        else:
            unit = times.unit_of(options.time_unit, largest, f"{files[0]}: column {options.time!r}")
    else:
        unit = "ms"
    # The forms exclude each other, except those of numbers, of which one is used. So the sum counts a row once.
    n_readable = sum(totals[f"time {form}"] for form in used)
    if n_readable != clicks and not options.skips:
        raise bad_time(files, options, used, unit)
    filled = {role: clicks - totals[f"{role} empty"] for role in ("item", "owner")}
    items_are_int, owners_are_int = (totals[f"{role} int"] == count for role, count in filled.items())
    if options.skips and any(0 < totals[f"{role} int"] < count for role, count in filled.items()):
        # Rows that are skipped, such as a line of totals, must not decide the type of the ids.
        schema = LogSchema(False, item_ids == "int", used, unit, (), sizes, rows, clicks)
        good_counts: Counter[str] = Counter()
        for counts in run_tasks(_good_ints, [(part, options, schema) for part in files]):
            good_counts.update(counts)
        items_are_int, owners_are_int = (0 < good_counts["rows"] == good_counts[role] for role in filled)
    if item_ids == "int" and not items_are_int and not options.skips:
        raise bad_item(files, options)
    return LogSchema(
        owners_are_int,
        (items_are_int and item_ids != "str") or item_ids == "int",
        used,
        unit,
        _type_names(files, options, type_names, kinds),
        sizes,
        rows,
        clicks,
    )


def _counts(part: Part, options: ClickOptions) -> dict[str, Any]:
    """Return the counts of the first pass over one part, and its `types`, at most one more than allowed.

    Raises DataError on an empty cell if bad rows are refused.
    """
    pl = require("polars", "train")
    frame, schema, broken = open_part(part, options)
    counted = options.counted
    expressions = {"rows": pl.len(), "counted": pl.len() if not options.types else counted.sum()}
    for role, name in (("owner", options.owner), ("item", options.item)):
        expressions[f"{role} empty"] = (is_empty(name) & counted).sum()
        expressions[f"{role} int"] = (is_plain_int(part, name, schema[name]) & counted).sum()
    if options.type is not None and not options.types:
        expressions["type empty"] = is_empty(options.type).sum()
    if part.kind == "csv":
        # Polars notices a row with too many fields, whose cells may be shifted, only if it reads every column.
        expressions["width"] = pl.sum_horizontal(pl.all().is_null()).sum()
    with one_line_errors(part, options):
        # Trying every form on every row takes longer than everything else. So try the forms of the first rows, and all
        # of them only if these leave a row unread.
        head = frame.head(_SAMPLE)
        readings = _readings(head, options, schema)
        sample = head.select(**readings).collect().row(0, named=True)
        numeric = sample.get("largest") is not None
        sizes = [key for key in readings if key.endswith("est") or key.startswith("unit ")]
        expressions |= {key: readings[key] for key, count in sample.items() if count or (numeric and key in sizes)}
        queries = [frame.select(**expressions)]
        if options.type is not None:
            queries.append(frame.select(pl.col(options.type).cast(pl.String).unique()).head(NO_CLICK + 1))
        counted_rows, *types = pl.collect_all(queries, engine="streaming")  # the queries share one reading
        counts = counted_rows.row(0, named=True)
        texts = sum(count for key, count in counts.items() if key.startswith("time ") and key not in _NUMBERS)
        if max(counts.get("time decimal", 0), texts) < counts["counted"]:
            counts |= frame.select(**_readings(frame, options, schema)).collect(engine="streaming").row(0, named=True)
    counts.pop("width", None)
    if not options.skips:
        for role, column in (("owner", options.owner), ("item", options.item), ("type", options.type)):
            if column is not None:
                refuse_empty(part, counts.get(f"{role} empty", 0), column, options)
    counts["rows"] += broken
    counts["counted"] += broken
    counts["item empty"] += broken
    counts["owner empty"] += broken
    filled = {key: 0 if count is None and not key.endswith("est") else count for key, count in counts.items()}
    return {**filled, "types": types[0].to_series().to_list() if types else []}


def _good_ints(part: Part, options: ClickOptions, types: LogSchema) -> dict[str, int]:
    """Count the readable rows of a part, and those whose item and owner are integers."""
    pl = require("polars", "train")
    frame, schema, _ = open_part(part, options)
    expressions = {"rows": pl.len()}  # those that count
    for role, name in (("item", options.item), ("owner", options.owner)):
        expressions[role] = is_plain_int(part, name, schema[name]).sum()
    with one_line_errors(part, options):
        rows = frame.filter(good_rows(part, options, schema, types) & options.counted)
        counts = rows.select(**expressions).collect(engine="streaming").row(0, named=True)
    return {role: count or 0 for role, count in counts.items()}


def _readings(frame: Any, options: ClickOptions, schema: Any) -> dict[str, Any]:
    """Return the counts to take of the time column: values of each form, and the sizes and units of numbers."""
    pl = require("polars", "train")
    zones = times.zones_of(frame, options.time) if times.is_text(schema[options.time]) else []
    readings = times.forms(options.time, schema[options.time], zones)
    clicks = options.counted
    expressions = {f"time {form}": (value.is_not_null() & clicks).sum() for form, value in readings.items()}
    if "decimal" in readings:
        size = readings["decimal"].abs()
        if options.types:
            size = pl.when(clicks).then(size)
        expressions |= {"largest": size.max(), "smallest": pl.when(size > 0).then(size).min()}
        if options.skips:
            expressions |= {f"unit {unit}": condition.sum() for unit, condition in times.unit_conditions(size).items()}
    return expressions


def placeable_rows(part: Part, options: ClickOptions, schema: Any, types: LogSchema) -> Any:
    """Return the polars condition of the rows that have an owner and a time, as rows need that only bridge gaps."""
    readings = times.forms(options.time, schema[options.time], times.zones_in(types.time_forms))
    condition = ~is_empty(options.owner)
    condition &= times.milliseconds(readings, types.time_forms, types.time_unit).is_not_null()
    if types.owner_is_int:
        condition &= is_plain_int(part, options.owner, schema[options.owner])
    return condition.fill_null(False)


def good_rows(part: Part, options: ClickOptions, schema: Any, types: LogSchema) -> Any:
    """Return the polars condition of the readable rows, as if all counted."""
    pl = require("polars", "train")
    condition = placeable_rows(part, options, schema, types) & ~is_empty(options.item)
    if options.type is not None and not options.types:
        condition &= ~is_empty(options.type)
    if types.item_is_int:
        condition &= is_plain_int(part, options.item, schema[options.item])
    if types.sizes is not None:
        size = times.forms(options.time, schema[options.time])[types.time_forms[0]].cast(pl.Float64).abs()
        condition &= (size == 0) | ((size >= types.sizes[0]) & (size < types.sizes[1]))
    return condition.fill_null(False)


def _type_names(
    files: Sequence[Part], options: ClickOptions, first: Sequence[str], log_types: Collection[str]
) -> tuple[str, ...]:
    """Return the names of the type codes: `first`, then the types that count. log_types: in the log, unless they
    are chosen."""
    if options.type is None:
        return ()
    names = tuple(dict.fromkeys((*first, *(options.types or sorted(log_types)))))
    if len(names) > NO_CLICK:
        raise DataError(
            f"{files[0]}: column {options.type!r} holds more than {NO_CLICK} types; name those that count as clicks "
            "or leave the column out"
        )
    return names
