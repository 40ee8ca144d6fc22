"""Open a part of a log and check its columns."""

from __future__ import annotations

from typing import Any

from mtaw_fast.data.readers import times
from mtaw_fast.data.readers.json_lines import one_row_an_event
from mtaw_fast.data.readers.options import ClickOptions
from mtaw_fast.data.readers.sources import Part, one_line_errors, scan_readable
from mtaw_fast.errors import DataError, require


def open_part(part: Part, options: ClickOptions) -> tuple[Any, Any, int]:
    """Return the lazy frame of a part, its schema, and the number of lines left out because they are no objects.

    Raises DataError if a column is missing or has an unusable type.
    """
    frame, broken = scan_readable(part, options)
    with one_line_errors(part, options):
        frame = one_row_an_event(frame, options.item)
        schema = frame.collect_schema()
    for name in options.columns:
        if name not in schema:
            names = ", ".join(map(repr, list(schema)[:20])) + (", ..." if len(schema) > 20 else "")
            raise DataError(
                f"{part} has no column {name!r}; it has {names}; name the right column or the right separator"
            )
        if f"{name}_duplicated_0" in schema:
            raise DataError(f"{part} has two columns {name!r}; rename one of them")
    for name in (options.owner, options.item):
        dtype = schema[name]
        if not (dtype.is_integer() or times.is_text(dtype)):
            raise DataError(f"{part}: column {name!r} holds {dtype}; ids must be integers or text, so cast it first")
    for name in options.context:
        dtype = schema[name]
        if dtype.is_nested() or dtype.is_float() or dtype.is_decimal() or dtype.is_temporal():
            raise DataError(
                f"{part}: context column {name!r} holds {dtype}; values must be text or whole numbers, so cast it first"
            )
    if not times.forms(options.time, schema[options.time]):
        raise DataError(
            f"{part}: column {options.time!r} holds {schema[options.time]}; times must be epoch numbers, ISO-8601 "
            "text or a datetime, so cast it first"
        )
    return frame, schema, broken


def is_empty(column: str) -> Any:
    """Return the condition that a value is missing or an empty text."""
    pl = require("polars", "train")
    return pl.col(column).is_null() | (pl.col(column).cast(pl.String) == "")


def is_plain_int(part: Part, column: str, dtype: Any) -> Any:
    """Return the condition that a value is an integer, or, in a CSV, the text of one. Elsewhere texts stay texts."""
    pl = require("polars", "train")
    value = pl.col(column)
    if part.is_typed and not dtype.is_integer():
        return pl.lit(False)
    return value.cast(pl.Int64, strict=False).cast(pl.String) == value.cast(pl.String)
