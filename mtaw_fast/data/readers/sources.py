"""Where a log lies on disk: its part files, lazy scans of them, and their errors as one line."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtaw_fast.errors import DataError, require

_PARQUET = (".parquet", ".pq")
_TAB_SEPARATED = (".tsv", ".tab", ".tsv.gz", ".tsv.zst")
_TEXT = (".csv", ".txt", ".csv.gz", ".csv.zst", *_TAB_SEPARATED)


def part_files(source: Path) -> list[Path]:
    """The files of a log, sorted by name: `source` itself, those of the folder, or those the glob pattern finds.

    Of a folder, only names that end like a CSV or Parquet file count. Raises DataError where none is found.
    """
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.is_file() and _is_log(path))
        if not files:
            raise DataError(f"{source} holds no log file; its parts must end in {', '.join((*_TEXT, *_PARQUET))}")
        return files
    if source.exists():
        return [source]
    if any(sign in str(source) for sign in "*?["):
        # Path.glob takes no absolute pattern.
        found = map(Path, glob.glob(str(source), recursive=True))  # noqa: PTH207
        files = sorted(path for path in found if path.is_file())
        if files:
            return files
        raise DataError(f"no file matches the pattern {source}; check it")
    raise DataError(f"{source} does not exist; name a log file, a folder of parts or a glob pattern")


def single_file(source: Path, name: str) -> Path:
    """`source` itself, or the file `name` where `source` is a folder; raises DataError where it is missing."""
    path = source / name if source.is_dir() else source
    if not path.is_file():
        raise DataError(f"{path} does not exist; name the raw {name} or the folder that holds it")
    return path


def scan(path: Path, separator: str | None) -> Any:
    """A lazy polars frame over one file. All CSV columns are text: types are decided by the log reader.

    Raises DataError where the file is empty or unreadable.
    """
    pl = require("polars", "train")
    with one_line_errors(path):
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty; a log needs a header line and at least one click")
        if is_parquet(path):
            return pl.scan_parquet(path, glob=False)
        default = "\t" if path.name.lower().endswith(_TAB_SEPARATED) else ","
        return pl.scan_csv(path, separator=separator or default, infer_schema=False, glob=False)


def is_parquet(path: Path) -> bool:
    """Whether the file is read as Parquet; all others are CSV."""
    return path.name.lower().endswith(_PARQUET)


@contextmanager
def one_line_errors(path: Path) -> Iterator[None]:
    """Turn what polars and the file system raise while reading `path` into a one-line DataError."""
    pl = require("polars", "train")
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise DataError(f"{path} cannot be read as a log ({reason}); mend or re-export the file") from None
    except OSError as error:
        reason = (error.strerror or str(error)).splitlines()[0]
        raise DataError(f"cannot read {path} ({reason}); check the file") from None


def _is_log(path: Path) -> bool:
    return not path.name.startswith((".", "_")) and path.name.lower().endswith((*_TEXT, *_PARQUET))
