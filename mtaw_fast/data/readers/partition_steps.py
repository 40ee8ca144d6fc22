"""The steps that make a data set from a log larger than memory. Each reads files and writes files atomically.

    scatter   a part of the log        -> its rows, by the hash of their owner (session or user)
    cut       the rows of a partition  -> its sessions, in order of their ends; its distinct items and their clicks
    keep      its sessions             -> those that pass a round of the filters
    gather    all sessions             -> the sessions of a time range, in order
    number    such a time range        -> a part of the data set

A step may run on any host that sees the files, and may run twice: it writes the same bytes. It keeps only what it reads
in memory, so the sizes of partitions and time ranges bound the memory. Axes: T clicks, B sessions, N distinct items. A
code is an item's number in the whole log.
"""

from __future__ import annotations

import contextlib
import errno
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.data.dataset_files import sample_arrays, session_arrays, write_part
from mtaw_fast.data.readers.click_log import ClickLog, clicks_of
from mtaw_fast.data.readers.dataset_builder import RawSessions, cut_log, packed, samples_of, support_round, without_bots
from mtaw_fast.data.readers.log_report import LogReport
from mtaw_fast.data.readers.options import ClickOptions
from mtaw_fast.data.readers.sources import Part, one_line_errors
from mtaw_fast.data.readers.validation import NO_CLICK, LogSchema
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import MtawError, require
from mtaw_fast.storage.files import atomic_path
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors

_SLICE = 1 << 20  # rows scattered at a time
_SAMPLE = 1024  # session ends per partition, from which the time ranges are chosen
_ODD = np.uint64(0x9E3779B97F4A7C15)  # multiplier of the hash of integer owners
_PART_BITS = 40  # a row's number in the log is part << 40 | row of the part


@dataclass(frozen=True, slots=True)
class Found:
    """What a step returns about the sessions that it wrote: their number and clicks, the first and last end, a sample
    of the ends, and its part of the report."""

    sessions: int
    clicks: int
    earliest: int
    latest: int
    ends: np.ndarray
    report: LogReport = field(default_factory=LogReport)


def scatter(
    part: Part, number: int, options: ClickOptions, types: LogSchema, partitions: int, path: Path
) -> tuple[int, int]:
    """Write the readable rows of a part, by partition; return their number, and that of the rows that count as clicks.

    The file has tables of at most `_SLICE` rows, each cut into one batch per partition, in order. The columns are
    owner, item, time, type (if the log has types) and row, which ascends over the whole log.
    """
    pa = require("pyarrow", "score")
    pl = require("polars", "train")
    with _no_space(path), atomic_path(path) as temporary, _temporary(path) as plain:
        with one_line_errors(part, options):
            clicks_of(part, options, types).sink_ipc(plain, compat_level=pl.CompatLevel.oldest())
        with pa.memory_map(str(plain)) as source:
            rows = pa.ipc.open_file(source).read_all()
            schema = rows.schema.append(pa.field("row", pa.int64()))
            with pa.ipc.new_file(temporary, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
                for first in range(0, max(len(rows), 1), _SLICE):
                    _scatter(writer, rows.slice(first, _SLICE), (number << _PART_BITS) + first, partitions)
            kinds = rows["type"].to_numpy() if "type" in rows.column_names else np.zeros(len(rows), np.uint8)
            return len(rows), int(np.count_nonzero(kinds != NO_CLICK))


def _scatter(out: Any, rows: Any, first: int, partitions: int) -> None:
    pa = require("pyarrow", "score")
    row_numbers = pa.array(np.arange(first, first + len(rows)), pa.int64())
    rows = rows.append_column("row", row_numbers).combine_chunks()
    hashes = _hashes(rows["owner"]) % np.uint64(partitions)
    order = np.argsort(hashes, kind="stable")
    rows = rows.take(pa.array(order)).combine_chunks()
    ends = np.cumsum(np.bincount(hashes.astype(np.int64), minlength=partitions))
    for begin, end in zip(np.append(0, ends[:-1]).tolist(), ends.tolist(), strict=True):
        batches = rows.slice(begin, end - begin).to_batches()
        out.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], rows.schema))


def _hashes(owners: Any) -> np.ndarray:
    """Return uint64[T], equal on every host."""
    pa = require("pyarrow", "score")
    if pa.types.is_integer(owners.type):
        return (owners.to_numpy().astype(np.int64).view(np.uint64) * _ODD) >> np.uint64(32)
    coded = whole(owners).dictionary_encode()
    hashes = np.array([zlib.crc32(text.encode()) for text in coded.dictionary.to_pylist()], np.uint64)
    return hashes[coded.indices.to_numpy(zero_copy_only=False)]


def cut(
    rows: Sequence[Path], partition: int, partitions: int, options: ClickOptions, names: tuple[str, ...], path: Path
) -> Found:
    """Write a partition's sessions of at least `min_session` clicks, and a table of its items to `path`.items.

    The table has columns item, clicks (all clicks) and support (clicks in the written sessions). names: names of the
    types; () without types.
    """
    pa = require("pyarrow", "score")
    table = _partition(rows, partition, partitions)
    item, texts = _coded(table["item"])
    numbers = table["row"].to_numpy()
    kind = table["type"].to_numpy() if "type" in table.column_names else None
    owner, times = _owners(table["owner"], numbers), table["time"].to_numpy()
    log = ClickLog(owner, item.astype(np.int32), times, kind, [], names, row=numbers)
    del table, owner
    report = LogReport()
    raw = without_bots(cut_log(log, options, report), options.bots, report)
    clicks = np.bincount(raw.clicks.items, minlength=len(texts))
    raw = raw.keep(np.ones(raw.clicks.n_clicks, dtype=bool), options.min_session, None).in_order()
    support = np.bincount(raw.clicks.items, minlength=len(texts))
    items = pa.table({"item": texts, "clicks": clicks, "support": support})
    with _no_space(path), atomic_path(items_of(path)) as temporary, pa.ipc.new_file(temporary, items.schema) as writer:
        writer.write_table(items)
    return _written(path, raw, report)


def items_of(path: Path) -> Path:
    """Return the path of the item table that `cut` writes with the sessions at `path`."""
    return path.with_name(f"{path.name}.items")


def _partition(rows: Sequence[Path], partition: int, partitions: int) -> Any:
    """Read the rows of a partition, in the order of the log."""
    pa = require("pyarrow", "score")
    batches, schema = [], None
    for file in rows:
        with pa.memory_map(str(file)) as source:
            reader = pa.ipc.open_file(source)
            schema = reader.schema
            batches += [reader.get_batch(k) for k in range(partition, reader.num_record_batches, partitions)]
    return pa.Table.from_batches(batches, schema).combine_chunks()


def whole(column: Any) -> Any:
    """Return a column of a table as one array."""
    pa = require("pyarrow", "score")
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.array([], column.type), *column.chunks])


def _coded(column: Any) -> tuple[np.ndarray, Any]:
    """Number the values of a column by first appearance: (int64[T] numbers, the distinct values)."""
    coded = whole(column).dictionary_encode()
    # A row that does not count as a click has no item.
    return coded.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64), coded.dictionary


def _owners(column: Any, row_numbers: np.ndarray) -> np.ndarray:
    """Return int64[T]: numbers that order the owners of all partitions as one process would: the integer id itself, or
    the first row of the owner in the log."""
    if require("pyarrow", "score").types.is_integer(column.type):
        owners: np.ndarray = column.to_numpy()
        return owners
    owner, _ = _coded(column)
    first = np.flatnonzero(np.diff(np.maximum.accumulate(owner), prepend=-1) > 0)
    return row_numbers[first][owner]


def keep(source: Path, codes: Path | None, frequent: Path, options: ClickOptions, path: Path) -> Found:
    """Write the sessions at `source` that pass a round of the filters, with `support` int64[N].

    codes: file of the items' codes, for sessions as `cut` wrote them; else None. frequent: file of bool[N].
    """
    raw = _read(source)
    if codes is not None:
        raw = replace(raw, clicks=packed(raw.clicks, map_tensors(codes, "map")["codes"]))
    report, is_frequent = LogReport(), map_tensors(frequent, "map")["frequent"]
    raw = support_round(raw, is_frequent, options, report)
    return _written(path, raw, report, support=np.bincount(raw.clicks.items, minlength=len(is_frequent)))


def gather(sources: Sequence[Path], after: int | None, upto: int | None, path: Path) -> Found:
    """Write the sessions whose ends are in (after, upto] (None: no bound), with `first`: their codes by first
    appearance."""
    raw = _time_range(sources, after, upto)
    codes, first_clicks = np.unique(raw.clicks.items, return_index=True)
    return _written(path, raw, LogReport(), first=codes[np.argsort(first_clicks)].astype(np.int32))


def number(source: Path, internal: Path, options: ClickOptions, folder: Path) -> dict[str, Any]:
    """Write sessions as a training part into `folder`; return its manifest entry with `samples` and `clicks`.

    internal: file of int32[N], the internal id of each code, -1 for items that training lacks.
    """
    sessions = packed(_read(source).clicks, map_tensors(internal, "map")["internal"])
    entry = data_file(folder, "train", source, session_arrays(sessions))
    samples = int(np.maximum(sessions.lengths - options.min_prefix, 0).sum())
    return {**entry, "sessions": len(sessions), "samples": samples}


def sample(
    sources: Sequence[Path], after: int, internal: Path, options: ClickOptions, name: str, folder: Path, draft: Path
) -> tuple[dict[str, Any], int, LogReport]:
    """Write the test samples of the sessions that end after a time; return the manifest entry, the number of samples
    and the report on the test split. draft: path of the unfinished file."""
    report = LogReport()
    test = packed(_time_range(sources, after, None).clicks, map_tensors(internal, "map")["internal"])
    samples, unseen = samples_of(test, options, name, report)
    return data_file(folder, "test", draft, sample_arrays(samples, unseen)), len(samples), report


def data_file(folder: Path, part: str, draft: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Write a file of the data set, first next to `draft`; return its manifest entry."""
    draft = draft.with_name(f"{draft.name}.{os.getpid()}")  # a step may run twice at the same time
    return write_part(folder, part, arrays, draft)


def _time_range(sources: Sequence[Path], after: int | None, upto: int | None) -> RawSessions:
    """Read the sessions of all sources whose ends are in (after, upto], in order."""
    parts = []
    for source in sources:
        raw = _read(source)
        begin = 0 if after is None else int(np.searchsorted(raw.ends, after, "right"))
        end = len(raw) if upto is None else int(np.searchsorted(raw.ends, upto, "right"))
        parts.append(RawSessions(raw.clicks.slice(begin, end), raw.ends[begin:end], raw.ties[begin:end]))
    clicks = Sessions.concatenate([part.clicks for part in parts])
    ends, ties = (np.concatenate([getattr(part, name) for part in parts]) for name in ("ends", "ties"))
    return RawSessions(clicks, ends, ties).in_order()


def _written(path: Path, raw: RawSessions, report: LogReport, **more: np.ndarray) -> Found:
    """Write sessions that are in order of their ends."""
    write_tensors(path, {**session_arrays(raw.clicks), "ends": raw.ends, "ties": raw.ties, **more})
    earliest, latest = (int(raw.ends[0]), int(raw.ends[-1])) if len(raw) else (0, 0)
    ends = raw.ends[:: max(1, len(raw) // _SAMPLE)]
    return Found(len(raw), raw.clicks.n_clicks, earliest, latest, ends, report)


def _read(path: Path) -> RawSessions:
    file = map_tensors(path, "map")
    clicks = Sessions(file["items"], file["offsets"], file["times"], file.get("types"))
    return RawSessions(clicks, file["ends"], file["ties"])


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield a path next to `path`, and remove the file at the end."""
    plain = path.with_name(f"{path.name}.{os.getpid()}.plain")
    try:
        yield plain
    finally:
        plain.unlink(missing_ok=True)


@contextlib.contextmanager
def _no_space(path: Path) -> Iterator[None]:
    """Report a full disk as such, and not as an unreadable log."""
    try:
        yield
    except MtawError as error:
        reason = os.strerror(errno.ENOSPC)
        if reason.lower() in str(error).lower() and not str(error).startswith("cannot write"):
            raise MtawError(f"cannot write {path}: {reason}; free some space or choose another folder") from None
        raise
