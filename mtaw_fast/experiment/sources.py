"""Where feedback is read from, and how it is copied: a feedback file, JSON lines, or the streams of Redis.

JSON lines are in a folder with two files for each day (UTC), rankings-2026-11-26.jsonl and feedback-2026-11-26.jsonl,
or in FILE.rankings and FILE.
"""

from __future__ import annotations

import json as plain_json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec import MsgspecError, convert, json

from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.experiment.feedback_file import NAME, FeedbackFile, FeedbackReader, Report, line_of
from mtaw_fast.experiment.lines import RankingLine, ReportLine
from mtaw_fast.experiment.redis_streams import REDIS, entries, newest_in, redis_address

RANKINGS, FEEDBACK = "rankings", "feedback"
_ADDED_AT_ONCE = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Lines = Iterable[tuple[object, Iterable[bytes]]]  # by the name of what has them


@contextmanager
def opened(where: str) -> Iterator[FeedbackReader]:
    """Open a feedback log to read. JSON lines and Redis are copied into a temporary file first.

    Raises DataError if there is no log, it cannot be read, or a whole line is not of it.
    """
    if (path := file_of(where)) is not None:
        with FeedbackReader.open(path) as reader:
            yield reader
        return
    rankings, reports = _sources(where)
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-feedback-") as folder:
        copy = Path(folder) / NAME
        with closing(FeedbackFile(copy)) as file:
            _copy(file.append, rankings, reports)
        with FeedbackReader.open(copy) as reader:
            yield reader


def file_of(where: str) -> Path | None:
    """Return the feedback file that `--feedback WHERE` names; None for Redis and JSON lines."""
    if where.startswith(REDIS):
        return None
    path = Path(where)
    if path.is_dir():
        path /= NAME
    try:
        with path.open("rb") as file:
            return path if file.read(6) == b"SQLite" else None
    except OSError:
        return None


def import_lines(where: str, into: str) -> tuple[int, int]:
    """Copy JSON lines, or the streams of Redis, into a feedback file; return how many rankings and reports they have.

    Lines that are there already are left out. Raises DataError, before anything is copied, if a whole line is wrong.
    """
    if file_of(where) is not None and not days_of(Path(where)):
        raise UsageError(f"--import {where}: it holds no JSON lines; export it first")
    for kind, lines in zip((RankingLine, ReportLine), _sources(where), strict=True):
        for _ in _decoded(lines, kind):
            pass
    path = Path(into)
    if into.startswith(REDIS):
        raise UsageError("--import adds lines to a file; name one")
    if into.endswith(os.sep) or path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path /= NAME
    with closing(FeedbackFile(path)) as file:
        return _copy(file.add_lines, *_sources(where))


def export(where: str, folder: Path) -> tuple[int, int]:
    """Write a feedback log as JSON lines into a folder, created if missing; return the numbers of lines.

    Raises UsageError if the folder holds such files already.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if days_of(folder):
        raise UsageError(f"--export {folder}: it holds JSON lines already; name another folder")
    counts = []
    with opened(where) as reader:
        for kind, table in ((RANKINGS, "rankings"), (FEEDBACK, "reports")):
            count, day, file = 0, "", None
            with ExitStack() as files:
                for line in reader.lines(table):
                    line_day = f"{_EPOCH + timedelta(milliseconds=line.time):%Y-%m-%d}"
                    if file is None or line_day != day:
                        files.close()
                        day, path = line_day, folder / f"{kind}-{line_day}.jsonl"
                        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                        file = files.enter_context(os.fdopen(descriptor, "wb"))
                    file.write(line_of(line) + b"\n")
                    count += 1
            counts.append(count)
    return counts[0], counts[1]


def _copy(add: Callable[[list[Any], list[Any]], None], rankings: Lines, reports: Lines) -> tuple[int, int]:
    counts = []
    for kind, lines in ((RankingLine, rankings), (ReportLine, reports)):
        count, decoded = 0, _decoded(lines, kind)
        while batch := list(islice(decoded, _ADDED_AT_ONCE)):
            add(*((batch, []) if kind is RankingLine else ([], [Report(line, None) for line in batch])))
            count += len(batch)
        counts.append(count)
    return counts[0], counts[1]


def _sources(where: str) -> tuple[Lines, Lines]:
    """Return the rankings and the reports of JSON lines or Redis, of these only what is there now."""
    if where.startswith(REDIS):
        try:
            address, stream = redis_address(where)
        except ValueError as error:
            raise DataError(f"not an address of Redis ({error}); give redis://host:6379/0") from None
        newest = newest_in(address, stream)  # later reports may be on rankings that are not read
        ranked = f"{stream}:{RANKINGS}"
        return [(ranked, entries(address, ranked))], [(stream, entries(address, stream, newest))]
    path = Path(where)
    if path.is_dir():
        rankings, reports = ([path / f"{kind}-{day}.jsonl" for day in days_of(path)] for kind in (RANKINGS, FEEDBACK))
    else:
        rankings, reports = [path.with_name(f"{path.name}.{RANKINGS}")], [path]
    if not any(file.exists() for file in (*rankings, *reports)):
        raise DataError(f"{where} holds no feedback; name what 'mtaw-fast serve --feedback' was given")
    return ([(file, _lines(file)) for file in files] for files in (rankings, reports))  # type: ignore[return-value]


def days_of(folder: Path) -> list[str]:
    """Return the days of which a folder holds JSON lines."""
    return sorted({
        file.stem.partition("-")[2] for kind in (RANKINGS, FEEDBACK) for file in folder.glob(f"{kind}-*.jsonl")
    })  # fmt: skip


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            yield from file


def _decoded(sources: Lines, kind: type[Any]) -> Iterator[Any]:
    decoder = json.Decoder(kind)
    what = "ranking" if kind is RankingLine else "report"
    for name, lines in sources:
        for line in lines:
            try:
                decoded = decoder.decode(line)
            except (MsgspecError, UnicodeDecodeError) as error:
                if not line.rstrip().endswith(b"}"):
                    continue  # it is what a crash left of a line
                try:
                    decoded = convert(plain_json.loads(line), kind)  # msgspec decodes no half of a surrogate pair
                except (ValueError, MsgspecError):
                    raise DataError(f"{name} has a line that is no {what} ({error}); remove the line") from None
            yield decoded
