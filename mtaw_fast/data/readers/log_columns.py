"""The columns of a log, and how to read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtaw_fast.data.readers import times
from mtaw_fast.data.readers.context_codes import check_context_columns
from mtaw_fast.data.readers.json_lines import one_row_an_event
from mtaw_fast.data.readers.sources import SKIPPING, Part, one_line_errors, scan_readable
from mtaw_fast.errors import DataError, require


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
            names = ", ".join(map(repr, list(schema)[:20])) + (", ..." if len(schema) > 20 else "")
            raise DataError(
                f"{part} has no column {name!r}; it has {names}; name the right column or the right separator"
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
