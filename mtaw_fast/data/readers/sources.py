"""Where a log lies: parts on disk, in an object store or in memory, lazy scans of them, their errors as one line."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mtaw_fast.errors import DataError, UsageError, require
from mtaw_fast.errors.install_command import install_packages

Kind = Literal["csv", "parquet", "json", "frame"]

_TAB_SEPARATED = (".tsv", ".tab", ".tsv.gz", ".tsv.zst")
_ENDINGS: dict[Kind, tuple[str, ...]] = {
    "csv": (".csv", ".txt", ".csv.gz", ".csv.zst", *_TAB_SEPARATED),
    "parquet": (".parquet", ".pq"),
    "json": (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".jsonl.zst", ".ndjson.zst"),
}
STORES = ("s3://", "gs://", "az://")
_SCHEMES = (*STORES, "s3a://", "gcs://", "azure://", "abfs://", "abfss://", "http://", "https://")
_RETRIES = 2  # of a request to an object store; polars' own choice makes a wrong address take 10 s


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
        """Whether its texts are texts: in a CSV every cell is one, whatever it means."""
        return self.kind != "csv"


def part_files(source: Any, columns: Sequence[str] = ()) -> list[Part]:
    """The parts of a log, sorted by name: `source` itself, those of the folder, or those the glob pattern finds.

    source: a path, a URL, or a frame of Polars, pandas or Arrow, of which `columns` alone are read. Of a folder, only
    names that end like a log count. Raises DataError where none is found, UsageError on a URL that tells no format.
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
            raise DataError(f"{source} holds no log file; its parts must end in {endings}")
        return [on_disk(path) for path in files]
    if source.exists():
        return [on_disk(source)]
    if any(sign in str(source) for sign in "*?["):
        # Path.glob takes no absolute pattern.
        found = map(Path, glob.glob(str(source), recursive=True))  # noqa: PTH207
        files = sorted(path for path in found if path.is_file())
        if files:
            return [on_disk(path) for path in files]
        raise DataError(f"no file matches the pattern {source}; check it")
    raise DataError(f"{source} does not exist; name a log file, a folder of parts or a glob pattern")


def on_disk(path: Path) -> Part:
    """The file as a part: what does not end like Parquet or JSON is read as CSV. Raises DataError where its name is no
    UTF-8 text, since polars opens no such file."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(f"the name of {str(path)!r} is no UTF-8 text, so it cannot be read; rename it") from None
    return Part(str(path), _kind_of(path.name) or "csv", path)


def is_url(source: Any) -> bool:
    """Whether `source` names something in an object store or on the web."""
    return isinstance(source, str) and source.lower().startswith(_SCHEMES)


def single_file(source: Path, name: str) -> Path:
    """`source` itself, or the file `name` where `source` is a folder; raises DataError where it is missing."""
    path = source / name if source.is_dir() else source
    if not path.is_file():
        raise DataError(f"{path} does not exist; name the raw {name} or the folder that holds it")
    return path


def scan(part: Part, separator: str | None) -> Any:
    """A lazy polars frame over one part. All CSV columns are text: types are decided by the log reader.

    Raises DataError where it is empty or unreadable.
    """
    if part.kind == "frame":
        return part.source
    pl = require("polars", "train")
    with one_line_errors(part):
        options: dict[str, Any] = {"glob": False}
        if isinstance(part.source, Path):
            if part.source.stat().st_size == 0:
                raise DataError(f"{part} is empty; a log needs a header line and at least one click")
        else:
            options = {"glob": True, "storage_options": {"max_retries": _RETRIES}}
        if part.kind == "parquet":
            return pl.scan_parquet(part.source, **options)
        if part.kind == "json":
            # Without a limit: a column of numbers that holds its first text in the last row is one of texts.
            options.pop("glob")
            return pl.scan_ndjson(part.source, infer_schema_length=None, **options)
        default = "\t" if part.where.lower().endswith(_TAB_SEPARATED) else ","
        return pl.scan_csv(part.source, separator=separator or default, infer_schema=False, **options)


def without_broken_lines(part: Part) -> tuple[Any, int]:
    """Of JSON lines on disk, those that are JSON as a lazy frame, held in memory, and how many are not.

    Raises DataError where none is.
    """
    pl = require("polars", "train")
    with one_line_errors(part):
        lines = pl.scan_lines(part.source).filter(pl.col("line").str.strip_chars() != "")
        whole = lines.filter(pl.col("line").str.json_path_match("$").is_not_null())
        kept, count = whole.collect()["line"], lines.select(pl.len()).collect().item()
        if len(kept) == 0:
            raise DataError(f"{part} holds no line of JSON; name a log")
        text = "\n".join(kept.to_list()).encode()
        return pl.read_ndjson(io.BytesIO(text), infer_schema_length=None).lazy(), count - len(kept)


@contextmanager
def one_line_errors(part: Part) -> Iterator[None]:
    """Turn what polars and the file system raise while reading `part` into a one-line DataError."""
    pl = require("polars", "train")
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise DataError(f"{part} cannot be read as a log ({reason}); mend or re-export the file") from None
    except OSError as error:
        reason = (error.strerror or str(error)).splitlines()[0]
        remedy = "check the file"
        if not isinstance(part.source, Path):
            remedy = "check the address and the credentials (those of the store's own command line are used)"
        raise DataError(f"cannot read {part} ({reason}); {remedy}") from None


def _in_memory(frame: Any, columns: Sequence[str]) -> Part:
    """A frame of Polars, pandas or Arrow as a part."""
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
        # The columns that are read alone: others may hold what polars cannot take.
        wanted = list(dict.fromkeys(columns))
        held = list(frame.column_names if library == "pyarrow" else frame.columns)
        for name in wanted:
            if name not in held:
                shown = ", ".join(map(repr, held[:20])) + (", ..." if len(held) > 20 else "")
                raise DataError(f"{part} has no column {name!r}; it has {shown}; name the right column")
            if held.count(name) > 1:
                raise DataError(f"{part} has two columns {name!r}; rename one of them")
        try:
            if library == "pyarrow":
                return Part(part.where, "frame", pl.from_arrow(frame.select(wanted) if wanted else frame).lazy())
            return Part(part.where, "frame", pl.from_pandas(frame[wanted] if wanted else frame).lazy())
        except (TypeError, ValueError, OverflowError, NotImplementedError) as error:  # those of pyarrow are such, too
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise DataError(
                f"{part} cannot be read as a log ({reason}); give each column one type, such as "
                "frame.astype({'item_id': str})"
            ) from None
        except ImportError as error:
            missing = error.name or "pyarrow"
            raise DataError(f"a pandas frame is read by way of '{missing}': {install_packages(missing)}") from None


def _at_url(url: str) -> Part:
    kind = _kind_of(url.split("?")[0])
    if kind is None:
        raise UsageError(
            f"{url}: its end does not tell how to read it; name files that end in .parquet, .csv or .jsonl, with a "
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
