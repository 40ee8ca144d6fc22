"""JSON lines: sessions with a list of events, lines that cannot be read, and where the first of them is."""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from mtaw_fast.errors import require

_BATCH = 8192  # lines read at a time in search of an unreadable one
_SHOWN = 60  # characters of a line in a message


def one_row_an_event(frame: Any, name: str) -> Any:
    """Return a frame of sessions whose events are a list of objects with the field `name` as one row an event.

    OTTO's log has this form: {"session": 1, "events": [{"aid": 5, "ts": 1659304800025, "type": "clicks"}, ..]}. Other
    frames are returned as they are.
    """
    column = events_of(frame.collect_schema(), name)
    return frame if column is None else frame.filter(_pl().col(column).list.len() > 0).explode(column).unnest(column)


def events_of(schema: Any, name: str) -> str | None:
    """Return the column that is a list of objects with the field `name`; None if `name` is a column itself, or if there
    is no such list."""
    pl = _pl()
    if name in schema:
        return None
    for column, kind in schema.items():
        if isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct) and name in kind.inner.to_schema():
            return str(column)
    return None


def readable_lines(source: Any) -> tuple[Any, int]:
    """Read the lines of a file that are JSON objects into memory; return their lazy frame, or None without any, and the
    number of other lines. Blank lines do not count."""
    pl = _pl()
    lines = pl.scan_lines(source).filter(pl.col("line").str.strip_chars() != "")
    kept, count = lines.filter(_is_object()).collect()["line"], lines.select(pl.len()).collect().item()
    frame = None if len(kept) == 0 else _frame(kept.to_list()).lazy()
    return frame, count - len(kept)


def unreadable_line(source: Any) -> str | None:
    """Return which line of a file is the first that cannot be read together with those before it, and how it begins;
    None if every line can."""
    pl = _pl()
    before, first = 0, ""  # the first line, so that a line of another shape is found in any batch
    for batch in pl.scan_lines(source).collect_batches(chunk_size=_BATCH, maintain_order=True):
        lines = batch["line"].to_list()
        if not _fit([first, *lines]):
            place = bisect_left(range(1, len(lines)), True, key=lambda count: not _fit([first, *lines[:count]]))
            text = lines[place].strip()
            return f"line {before + place + 1} ({text[:_SHOWN]}{'..' if len(text) > _SHOWN else ''})"
        first = first or next((line for line in lines if line.strip()), "")
        before += len(lines)
    return None


def _fit(lines: Sequence[str]) -> bool:
    """Whether the lines can be read as objects of one shape."""
    pl = _pl()
    filled = [line for line in lines if line.strip()]
    if not pl.Series("line", filled, pl.String).to_frame().select(_is_object().all()).item():
        return False
    try:
        _frame(filled)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return False
    return True


def _is_object() -> Any:
    pl = _pl()
    text = pl.col("line").str.strip_chars()
    return text.str.starts_with("{") & text.str.json_path_match("$").is_not_null()


def _frame(lines: Sequence[str]) -> Any:
    text = "\n".join(lines).encode()
    return _pl().read_ndjson(io.BytesIO(text), infer_schema_length=None) if text else _pl().DataFrame()


def _pl() -> Any:
    return require("polars", "train")
