"""The errors that name a bad row of a log: counts found that there is one, and only then it is searched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtaw_fast.data.readers import times
from mtaw_fast.data.readers.json_lines import events_of, line_of_row, one_row_an_event
from mtaw_fast.data.readers.options import ClickOptions
from mtaw_fast.data.readers.sources import Part, is_empty, is_plain_int, one_line_errors, open_part, scan_readable
from mtaw_fast.errors import DataError


def refuse_empty(part: Part, count: int, name: str, options: ClickOptions) -> None:
    """Raise DataError, naming the first row, if `count` cells of the column are empty."""
    if count:
        row, _ = _first(part, options, is_empty(name) & options.counted, name)
        raise DataError(
            f"{part}: column {name!r} is empty in {row}{f' and {count - 1} more' if count > 1 else ''}; "
            f"fill in or remove such rows{options.remedy}"
        )


def two_units(files: Sequence[Part], options: ClickOptions) -> DataError:
    """Return the error that names the first time of each of two units."""
    examples: dict[str, str] = {}
    for part in files:
        schema = open_part(part, options)[1]
        size = times.forms(options.time, schema[options.time])["decimal"].abs()
        conditions = times.unit_conditions(size)
        conditions["ns"] |= size >= times.TOO_LARGE  # such a number has no unit; `straddles` counts it as ns
        for unit, condition in conditions.items():
            row, value = _first(part, options, condition & options.counted, options.time)
            if row and unit not in examples:
                examples[unit] = f"{value} in {row}{f' of {Path(part.where).name}' if len(files) > 1 else ''}"
    (unit_a, first), (unit_b, second) = [(unit, examples[unit]) for unit in times.UNIT_NAMES if unit in examples][:2]
    return DataError(
        f"{files[0] if len(files) == 1 else Path(files[0].where).parent}: column {options.time!r} mixes units: {first} "
        f"is {times.UNIT_NAMES[unit_a]} since 1970, {second} {times.UNIT_NAMES[unit_b]}; write every time in one unit"
        f"{', or leave the few out with --bad-rows skip' if options.remedy else ''}"
    )


def bad_item(files: Sequence[Part], options: ClickOptions) -> DataError:
    """Return the error that names the first item id that is not an integer."""
    for part in files:
        schema = open_part(part, options)[1]
        not_int = ~is_plain_int(part, options.item, schema[options.item]) & options.counted
        row, value = _first(part, options, not_int, options.item)
        if row:
            return DataError(
                f"{part}: column {options.item!r} holds {value!r:.60} in {row}, but the catalog's ids are ints; "
                f"remove such rows or read the log that the catalog was made from{options.remedy}"
            )
    raise AssertionError("the counts found an id that is not an integer, the search did not")


def bad_time(files: Sequence[Part], options: ClickOptions, used: tuple[str, ...], unit: str) -> DataError:
    """Return the error that names the first unreadable value of the time column."""
    for part in files:
        schema = open_part(part, options)[1]
        readings = times.forms(options.time, schema[options.time], times.zones_in(used))
        reading = times.milliseconds(readings, used, unit)
        row, value = _first(part, options, reading.is_null() & options.counted, options.time)
        if row and (value is None or value == ""):
            return DataError(
                f"{part}: column {options.time!r} is empty in {row}; fill in or remove such rows{options.remedy}"
            )
        if row:
            form = "an epoch number" if used[0] in ("int", "decimal") else "an ISO-8601 time"
            return DataError(
                f"{part}: column {options.time!r} holds {value!r} in {row}, not {form}; write every time as "
                f"epoch seconds, epoch milliseconds or like 2024-05-01T12:30:00Z, or remove the row{options.remedy}"
            )
    raise AssertionError("the counts found a bad time that the search did not")


def _first(part: Part, options: ClickOptions, condition: Any, column: str) -> tuple[str, Any]:
    """Return where the first row is that fulfills `condition`, such as 'data row 3', and its value; ('', None) without
    one. In a log of sessions with lists of events it is the session's row, or its line in a file of JSON lines."""
    with one_line_errors(part, options):
        number, (frame, _) = f"row of {column}", scan_readable(part, options)
        has_sessions = events_of(frame.collect_schema(), options.item) is not None
        rows = one_row_an_event(frame.with_row_index(number), options.item)
        match = rows.filter(condition).select(number, column).head(1).collect(engine="streaming")
        if len(match) == 0:
            return "", None
        row, value = match.row(0)
        if has_sessions and part.has_lines:
            return f"line {line_of_row(part.source, row)}", value
    return f"{'row' if has_sessions else 'data row'} {row + 1}", value
