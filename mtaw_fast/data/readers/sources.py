"""The sources of a log: parts on disk, in an object store or in memory, their lazy scans with checked columns, and
their errors in one line."""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mtaw_fast.data.readers import times
from mtaw_fast.data.readers.json_lines import (
    begins_with_mark,
    has_other_values,
    one_row_an_event,
    readable_lines,
    undecodable_line,
    unreadable_line,
)
from mtaw_fast.data.readers.options import ClickOptions
from mtaw_fast.errors import DataError, EmptyLogError, UsageError, nearest, require
from mtaw_fast.errors.install import install_packages

Kind = Literal["csv", "parquet", "json", "frame"]

_TAB_SEPARATED = (".tsv", ".tab", ".tsv.gz", ".tab.gz", ".tsv.zst", ".tab.zst")
_ENDINGS: dict[Kind, tuple[str, ...]] = {
    "csv": (".csv", ".txt", ".csv.gz", ".csv.zst", *_TAB_SEPARATED),
    "parquet": (".parquet", ".pq"),
    "json": tuple(f"{name}{packed}" for packed in ("", ".gz", ".zst") for name in (".jsonl", ".ndjson", ".json")),
}
STORES = ("s3://", "gs://", "az://")
_SCHEMES = (*STORES, "s3a://", "gcs://", "azure://", "abfs://", "abfss://", "http://", "https://")
_LISTED = 20  # columns that a message names
_RETRIES = 2  # of a request to an object store; with polars' default, a wrong address takes 10 s


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One part of a log: a file, what a URL names, or a frame in memory.

    where: its name in messages. kind: how it is read. source: a Path, a URL (str), or a polars LazyFrame.
    """

    where: str
    kind: Kind
    source: Any

    def __str__(self) -> str:
        return self.where

    @property
    def is_typed(self) -> bool:
        """Whether columns have types of their own; in a CSV every cell is text."""
        return self.kind != "csv"

    @property
    def has_lines(self) -> bool:
        """Whether it is a file of JSON lines on disk, in which a line can be found and left out."""
        return self.kind == "json" and isinstance(self.source, Path)


def part_files(source: Any, columns: Sequence[str] = ()) -> list[Part]:
    """Return the parts of a log, sorted by name: `source` itself, the files of a folder, or those of a glob pattern.

    source: a path, a URL, or a frame of Polars, pandas or Arrow, of which only `columns` are read. In a folder, only
    files with the ending of a log count. Raises DataError if none is found, UsageError on a URL without such an ending.
    """
    if not isinstance(source, (str, os.PathLike)):
        return [_in_memory(source, columns)]
    if is_url(source):
        return [_at_url(str(source))]
    source = Path(source)
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.is_file() and _is_log(path))
        if not files:
            endings = ", ".join(ending for endings in _ENDINGS.values() for ending in endings)
            raise DataError(f"{source} has no log file; its parts must end in {endings}")
        return [on_disk(path) for path in files]
    if source.exists():
        return [on_disk(source)]
    if any(sign in str(source) for sign in "*?["):
        # Path.glob takes no absolute pattern.
        paths = map(Path, glob.glob(str(source), recursive=True))  # noqa: PTH207
        files = sorted(path for path in paths if path.is_file())
        if files:
            return [on_disk(path) for path in files]
        raise DataError(f"no file matches the pattern {source}; check it")
    raise DataError(f"{source} does not exist; name a log file, a folder of parts or a glob pattern")


def on_disk(path: Path) -> Part:
    """Return the file as a part; a file that does not end like Parquet or JSON is CSV. Raises DataError if its name is
    not UTF-8 text, because polars cannot open it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(f"the name of {str(path)!r} is not UTF-8 text, so it cannot be read; rename it") from None
    return Part(str(path), _kind_of(path.name) or "csv", path)


def is_url(source: Any) -> bool:
    """Whether `source` names something in an object store or on the web."""
    return isinstance(source, str) and source.lower().startswith(_SCHEMES)


def single_file(source: Path, name: str) -> Path:
    """Return `source`, or the file `name` in it if it is a folder. Raises DataError if the file is missing."""
    path = source / name if source.is_dir() else source
    if not path.is_file():
        raise DataError(f"{path} does not exist; name the raw {name} or the folder that holds it")
    return path


def _scan(part: Part, separator: str | None) -> Any:
    """Return a lazy polars frame over one part. All CSV columns are text; the log reader decides the types."""
    if part.kind == "frame":
        return part.source
    pl = require("polars", "train")
    if isinstance(part.source, Path):
        if part.source.stat().st_size == 0:
            raise EmptyLogError(f"{part} is empty; a log needs a header line and at least one click")
        if part.kind == "json":
            schema = _json_schema(part.source, *_version(part.source))
            return pl.scan_ndjson(_no_pattern(part.source), schema=schema)
        options: dict[str, Any] = {"glob": False}
    else:
        options = {"storage_options": {"max_retries": _RETRIES}}
        if part.kind == "json":
            return pl.scan_ndjson(part.source, infer_schema_length=None, **options)
    if part.kind == "parquet":
        return pl.scan_parquet(part.source, **options)
    default = "\t" if part.where.lower().endswith(_TAB_SEPARATED) else ","
    return pl.scan_csv(part.source, separator=separator or default, infer_schema=False, **options)


@functools.lru_cache(maxsize=1024)
def _json_schema(path: Path, _size: int, _changed: int) -> Any:
    """Return the schema of a file of JSON lines, kept as long as the file stays as it is, since finding it reads every
    line: a column whose only text is in the last row is a text column."""
    pl = require("polars", "train")
    return pl.scan_ndjson(_no_pattern(path), infer_schema_length=None).collect_schema()


def _no_pattern(path: Path) -> str:
    """Return the path for `scan_ndjson`, which would read every file that `log[1].jsonl` matches as a pattern."""
    return glob.escape(str(path))


def _no_column(part: Part, name: str, names: Sequence[str], remedy: str) -> DataError:
    """Return the error for a column that is missing."""
    listing = ", ".join(map(repr, names[:_LISTED])) + (", ..." if len(names) > _LISTED else "")
    hint = (len(names) > 1 and nearest(name, map(str, names))) or f"; {remedy}"  # one is the line, by a wrong separator
    return DataError(f"{part} has no column {name!r}; it has {listing}{hint}")


def scan_readable(part: Part, options: ClickOptions) -> tuple[Any, int]:
    """Return the lazy frame of a part as it is stored, and the number of JSON lines that are left out.

    A JSON lines file with lines that are no objects, which may be skipped, or with a byte order mark is read into
    memory. Raises DataError if the part is empty or unreadable, or if no line is left.
    """
    try:
        with one_line_errors(part, None if options.skips else options):
            frame = _scan(part, options.separator)
            frame.collect_schema()
            if not (part.has_lines and options.skips and _has_other_values(part.source, *_version(part.source))):
                return frame, 0
    except DataError:
        if not part.has_lines or not (options.skips or _has_mark_alone(part)):
            raise
    with one_line_errors(part, options):
        frame, broken = readable_lines(part.source)
    if frame is None:
        raise DataError(f"{part} has no line that is a JSON object; name a log")
    return frame, broken


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
            if any("\0" in column for column in schema):
                raise DataError(f"{part} is UTF-16 text; write it as UTF-8, as with iconv -f UTF-16 -t UTF-8")
            raise _no_column(part, name, list(schema), "name the right column or the right separator")
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


def _has_mark_alone(part: Part) -> bool:
    """Whether a byte order mark is all that keeps a file of JSON lines from being read."""
    with one_line_errors(part):
        return begins_with_mark(part.source) and unreadable_line(part.source) is None


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=1024)
def _has_other_values(path: Path, _size: int, _changed: int) -> bool:
    return has_other_values(path)


@contextmanager
def one_line_errors(part: Part, options: ClickOptions | None = None) -> Iterator[None]:
    """Turn the errors of polars and the file system while reading `part` into a one-line DataError."""
    pl = require("polars", "train")
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        if part.has_lines:
            problem = _problem_of(part.source, options)
            if problem is not None:
                raise DataError(f"{part}: {problem}") from None
        raise DataError(f"{part} cannot be read as a log ({reason}); fix or re-export the file") from None
    except OSError as error:
        reason = (error.strerror or str(error)).splitlines()[0]
        remedy = "check the file"
        if not isinstance(part.source, Path):
            remedy = "check the address and the credentials (those of the store's own command line)"
        raise DataError(f"cannot read {part} ({reason}); {remedy}") from None


def _problem_of(path: Path, options: ClickOptions | None) -> str | None:
    """Return what is wrong with the first line of a JSON lines file that cannot be read, and what to do; None if every
    line can, or if the file has none."""
    pl = require("polars", "train")
    try:
        problem = unreadable_line(path, objects=options is not None and options.skips)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        number = undecodable_line(path)
        return None if number is None else f"line {number} is not UTF-8 text; write the file as UTF-8"
    if problem is None:
        return None
    line, reason, is_object = problem
    remedy = options.remedy if options is not None and not is_object else ""
    return f"{line} cannot be read: {reason}; fix or remove such lines{remedy}"


def _in_memory(frame: Any, columns: Sequence[str]) -> Part:
    """Return a frame of Polars, pandas or Arrow as a part."""
    pl = require("polars", "train")
    if isinstance(frame, (pl.DataFrame, pl.LazyFrame)):
        return Part("the frame", "frame", frame.lazy())
    library = type(frame).__module__.split(".")[0]
    if library not in ("pandas", "pyarrow") or not hasattr(frame, "columns"):
        raise UsageError(
            f"a log is a path, a URL or a frame of Polars, pandas or Arrow, not {type(frame).__name__}; "
            "convert it first"
        )
    part = Part("the frame", "frame", None)
    with one_line_errors(part):
        # Take only the columns that are read: polars may not be able to read the others.
        needed = list(dict.fromkeys(columns))
        present = list(frame.column_names if library == "pyarrow" else frame.columns)
        for name in needed:
            if name not in present:
                raise _no_column(part, name, present, "name the right column")
            if present.count(name) > 1:
                raise DataError(f"{part} has two columns {name!r}; rename one of them")
        try:
            if library == "pyarrow":
                return Part(part.where, "frame", pl.from_arrow(frame.select(needed) if needed else frame).lazy())
            return Part(part.where, "frame", pl.from_pandas(frame[needed] if needed else frame).lazy())
        except (TypeError, ValueError, OverflowError, NotImplementedError) as error:  # including pyarrow's errors
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise DataError(
                f"{part} cannot be read as a log ({reason}); give each column one type, such as "
                "frame.astype({'item_id': str})"
            ) from None
        except ImportError as error:
            package = error.name or "pyarrow"
            raise DataError(f"reading a pandas frame needs '{package}': {install_packages(package)}") from None


def _at_url(url: str) -> Part:
    kind = _kind_of(url.split("?")[0])
    if kind is None:
        raise UsageError(
            f"{url}: the ending does not say the format; name files that end in .parquet, .csv or .jsonl, with a "
            "pattern such as part-*.parquet for several"
        )
    return Part(url, kind, url)


def _kind_of(name: str) -> Kind | None:
    for kind, endings in _ENDINGS.items():
        if name.lower().endswith(endings):
            return kind
    return None


def _is_log(path: Path) -> bool:
    return not path.name.startswith((".", "_")) and _kind_of(path.name) is not None
