"""JSON lines: sessions with a list of events, lines that cannot be read, and where the first of them is."""

from __future__ import annotations

import gzip
import io
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtaw_fast.errors import require

_BATCH = 8192  # lines read at a time in search of an unreadable one
_SHOWN = 60  # characters of a line in a message
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # how such files begin, by which polars knows them
_MARK = "\ufeff"  # the byte order mark that some programs write first


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
    lines = _filled_lines(source)
    objects, count = lines.filter(_is_object()).collect()["line"], lines.select(pl.len()).collect().item()
    frame = None if len(objects) == 0 else _frame(objects.to_list()).lazy()
    return frame, count - len(objects)


def has_other_values(source: Any) -> bool:
    """Whether a line of a file does not begin like an object: the schema of a scan does not notice `5` or `null`."""
    pl = _pl()
    answer = _filled_lines(source).select((~pl.col("line").str.starts_with("{")).any())
    return bool(answer.collect(engine="streaming").item())


def begins_with_mark(source: Any) -> bool:
    """Whether a file begins with a byte order mark, which polars takes for a part of the first line."""
    head = _pl().scan_lines(source, glob=False).head(1).collect()["line"]
    return len(head) > 0 and bool(head[0].startswith(_MARK))


def line_of_row(source: Any, row: int) -> int:
    """Return the number of the line, from 1, that holds a row (from 0) of a file in which every line can be read."""
    return int(_filled_lines(source).select("number").slice(row, 1).collect(engine="streaming").item())


def unreadable_line(source: Any, *, objects: bool = False) -> tuple[str, str, bool] | None:
    """Find the first line of a file that cannot be read together with those before it; None if every line can.

    objects: leave out lines that are no objects. Returns which line it is and how it begins, why it cannot be read, and
    whether it is an object.
    """
    pl = _pl()
    n_before, first = 0, ""  # the first line, so that a line of another shape is found in any batch
    for batch in pl.scan_lines(source, glob=False).collect_batches(chunk_size=_BATCH, maintain_order=True):
        if objects:
            batch = batch.select(pl.when(_is_object()).then("line").otherwise(pl.lit("")).alias("line"))
        lines = batch["line"].to_list()
        if n_before == 0 and lines:
            lines[0] = lines[0].removeprefix(_MARK)
        if _misfit([first, *lines]) is not None:
            index = bisect_left(range(1, len(lines)), True, key=lambda n: _misfit([first, *lines[:n]]) is not None)
            text, is_object = lines[index].strip(), _misfit([lines[index]]) is None
            reason = _misfit([first, *lines[: index + 1]] if is_object else [text])
            excerpt = f"{text[:_SHOWN]}{'..' if len(text) > _SHOWN else ''}"
            return f"line {n_before + index + 1} ({excerpt})", reason or "of another shape", is_object
        first = first or next((line for line in lines if line.strip()), "")
        n_before += len(lines)
    return None


def undecodable_line(path: Path) -> int | None:
    """Return the number of the first line, from 1, that is not UTF-8 text; None without one, or if the file is
    damaged or in a compression that only polars reads."""
    n_decoded = 0
    try:
        with path.open("rb") as file:
            head = file.read(len(_ZSTD))
        if head == _ZSTD:
            return None
        with gzip.open(path) if head.startswith(_GZIP) else path.open("rb") as stream:
            for line in stream:
                line.decode()
                n_decoded += 1
    except UnicodeDecodeError:
        return n_decoded + 1
    except (OSError, EOFError, zlib.error):
        return None
    return None


def _misfit(lines: Sequence[str]) -> str | None:
    """Return why the lines cannot be read as objects of one shape; None if they can."""
    pl = _pl()
    filled = [line for line in lines if line.strip()]
    try:
        _frame(filled)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        if all(line.lstrip().startswith("{") for line in filled):
            return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return "it is no JSON object"
    fits = pl.Series("line", filled, pl.String).to_frame().select(_is_object().all()).item()
    return None if fits else "it is no JSON object"


def _filled_lines(source: Any) -> Any:
    """Return the lazy frame of the lines that are not blank, without a byte order mark and blanks around them. number:
    of the line, from 1."""
    pl = _pl()
    text = pl.col("line").str.strip_prefix(_MARK).str.strip_chars()
    return pl.scan_lines(source, glob=False).with_row_index("number", 1).with_columns(text).filter(pl.col("line") != "")


def _is_object() -> Any:
    pl = _pl()
    text = pl.col("line").str.strip_chars()
    return text.str.starts_with("{") & text.str.json_path_match("$").is_not_null()


def _frame(lines: Sequence[str]) -> Any:
    text = "\n".join(lines).encode()
    return _pl().read_ndjson(io.BytesIO(text), infer_schema_length=None) if text else _pl().DataFrame()


def _pl() -> Any:
    return require("polars", "train")
