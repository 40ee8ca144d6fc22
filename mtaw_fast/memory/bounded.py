"""Build tables and trends within a limit of memory use: in one pass if it fits, else one range of items at a time.

The memory use of a pass over tables has a bound: 12 bytes a click and 12 a session for its copy of the sessions; 9 a
click, 4 a session and 81 an item in addition; and 20 for each neighbor and 4 for each posting of its rows. An item has
at most `max_neighbors` neighbors, and at most as many as its sessions have other clicks. Ranges divide the rows; the
rest does not shrink if popular items are in most sessions.

A pass over trends takes at most 21 bytes a click, 12 more if it has to sort a session's clicks by time, and 48 for each
kept pair: its own and those of the arrays that it returns. A row depends only on the clicks around those on its item,
and all rows have the same clock, so the joined ranges equal, to the bit, what one pass builds.

Axes: N items, S sessions, T clicks.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.memory.ranges import item_ranges, join_ranges, joined_offsets, write_range
from mtaw_fast.memory.settings import MemorySettings
from mtaw_fast.memory.tables import MemoryTables
from mtaw_fast.memory.trends import TrendSettings, TrendTables, build_arrays, write_trends
from mtaw_fast.storage.files import remedy_of
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors

MAX_RANGES = 256
_SCRATCH = ".tables-"
_SHARD = 1 << 20  # clicks of a shard
_PER_CLICK, _PER_SESSION, _PER_ITEM, _PER_PAIR, _PER_POSTING = 21, 16, 81, 20, 4
_PER_TREND_CLICK, _PER_TREND_ITEM, _PER_TREND_PAIR = 21, 320, 48
_PER_SORTED, _PER_SORTED_CODE = 12, 2  # bytes a click, and column of context, of the copy in the order of time
_PER_CONTEXT_SUM = 24  # bytes a click and column of context
_WHOLE = {"sums", "clock", "context_sizes", "context_totals"}  # the same in every range


@dataclass(frozen=True, slots=True)
class PassBytes:
    """An upper bound on the bytes of one pass. fixed: for sessions and items. rows: for neighbors and postings."""

    fixed: int
    rows: int

    @property
    def total(self) -> int:
        """The bytes of both together."""
        return self.fixed + self.rows

    def ranges(self, limit: int) -> int:
        """Return how many ranges stay within `limit` bytes; `MAX_RANGES` if no number does."""
        if self.total <= limit:
            return 1
        free = limit - self.fixed
        return MAX_RANGES if free <= 0 else min(-(-self.rows // free), MAX_RANGES)


def pass_bytes(sessions: Sessions, n_items: int, settings: MemorySettings) -> PassBytes:
    """Return a bound on the bytes that `MemoryTables.build` needs for these sessions, including its result."""
    clicks, others = np.zeros(n_items, np.int64), np.zeros(n_items, np.int64)
    for shard in shards_of(sessions):
        clicks += np.bincount(shard.items, minlength=n_items)
        weights = np.repeat(shard.lengths - 1, shard.lengths).astype(np.float64)
        others += np.bincount(shard.items, weights, minlength=n_items).astype(np.int64)
    pairs = int(np.minimum(others, settings.max_neighbors or n_items).sum())
    postings = int(np.minimum(clicks, settings.max_postings or len(sessions)).sum())
    fixed = _PER_CLICK * sessions.n_clicks + _PER_SESSION * len(sessions) + _PER_ITEM * n_items
    return PassBytes(fixed, _PER_PAIR * pairs + _PER_POSTING * postings)


def trend_bytes(sessions: Sessions, n_items: int, settings: TrendSettings) -> PassBytes:
    """Return a bound on the bytes that `TrendTables.build` needs for these sessions, including its result."""
    others = np.zeros(n_items)
    for shard in shards_of(sessions):
        near = np.repeat(np.minimum(shard.lengths - 1, 2 * settings.window), shard.lengths)
        others += np.bincount(shard.items, near.astype(np.float64), minlength=n_items)
    pairs = int(np.minimum(others, settings.max_neighbors or n_items).sum())
    columns = 0 if sessions.context is None else sessions.context.shape[1]
    per_click = _PER_TREND_CLICK + _PER_CONTEXT_SUM * columns
    if not all(map(_is_by_time, shards_of(sessions))):
        per_click += _PER_SORTED + _PER_SORTED_CODE * columns
    return PassBytes(per_click * sessions.n_clicks + _PER_TREND_ITEM * n_items, _PER_TREND_PAIR * pairs)


def _is_by_time(sessions: Sessions) -> bool:
    """Whether the clicks of every session are in the order of time."""
    if sessions.times is None:
        return True
    in_order = sessions.times[1:] >= sessions.times[:-1]
    inner = sessions.offsets[(sessions.offsets > 0) & (sessions.offsets < sessions.n_clicks)]  # a session may be empty
    in_order[inner - 1] = True  # a session's last click and the first of the next
    return bool(in_order.all())


def build_in_ranges(
    sessions: Sessions, n_items: int, settings: MemorySettings | None, count: int, folder: Path, *, threads: int = 1
) -> MemoryTables:
    """Return what `MemoryTables.build` does, to the bit, built in `count` ranges of items one after the other.

    There are fewer ranges if there are fewer items. folder: for temporary files, about twice as large as the tables.
    The result maps the last one, which has no name any more: the system can drop its memory and read it again.

    Raises UsageError if `count` is below 1, DataError as `MemoryTables.build` does, and MtawError if the files cannot
    be written.
    """
    if count < 1:
        raise UsageError(f"the number of item ranges must be at least 1, not {count}")
    settings = (settings or MemorySettings()).resolved(len(sessions))
    sessions = sessions.without_times()
    sessions.check_ids(n_items, "memory tables")
    shards = list(shards_of(sessions))
    with _scratch(folder) as scratch:
        parts = []
        for first, last in item_ranges(_clicks_of(sessions, n_items), count):
            parts.append(scratch / f"rows-{first}")
            write_range(parts[-1], shards, n_items, settings, first, last, threads)
        path = scratch / "tables"
        join_ranges(path, parts, shards, settings)
        return MemoryTables.load(map_tensors(path, "map"))


def build_trends_in_ranges(
    sessions: Sessions,
    times: np.ndarray,
    n_items: int,
    settings: TrendSettings,
    count: int,
    folder: Path,
    *,
    threads: int = 1,
    context_sizes: Sequence[int] = (),
) -> TrendTables:
    """Return what `TrendTables.build` does, to the bit, built in `count` ranges of items one after the other.

    folder: for temporary files, about twice as large as the tables. The result maps the last one, which has no name any
    more. The other arguments, and DataError, are those of `TrendTables.build`; raises MtawError if the files cannot be
    written.
    """
    sessions.check_ids(n_items, "trends")
    with _scratch(folder) as scratch:
        parts = []
        for first, last in item_ranges(_clicks_of(sessions, n_items), count):
            arrays = build_arrays(
                sessions, times, n_items, settings, threads=threads, context_sizes=context_sizes, first=first, last=last
            )
            parts.append(scratch / f"trends-{first}")
            write_tensors(parts[-1], arrays)
            del arrays
        files = [map_tensors(part, "map") for part in parts]
        pieces = {name: [part[name] for part in files] for name in files[0]}
        for name, arrays_of_parts in pieces.items():
            if name in _WHOLE:
                pieces[name] = arrays_of_parts[:1]
            elif name.endswith("_offsets"):
                pieces[name] = joined_offsets(arrays_of_parts)
        path = scratch / "trends"
        write_trends(path, pieces, settings)
        return TrendTables.load(map_tensors(path, "map"))


def _clicks_of(sessions: Sessions, n_items: int) -> np.ndarray:
    clicks = np.zeros(n_items, np.int64)
    for shard in shards_of(sessions):
        clicks += np.bincount(shard.items, minlength=n_items)
    return clicks


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    try:
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as name:
            yield Path(name)
    except OSError as error:
        reason = f"cannot write into {folder}: {error.strerror or error}"
        raise MtawError(f"{reason}; {remedy_of(error, 'choose another folder')}") from None


def remove_left(folder: Path) -> None:
    """Remove the temporary files that `build_in_ranges` leaves in a folder if its process is killed."""
    for leftover in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def shards_of(sessions: Sessions) -> Iterator[Sessions]:
    """Yield the sessions as views of about `_SHARD` clicks each, at least one."""
    begin = 0
    while True:
        end = int(np.searchsorted(sessions.offsets, sessions.offsets[begin] + _SHARD))
        yield sessions.slice(begin, max(end, begin + 1))
        begin = max(end, begin + 1)
        if begin >= len(sessions):
            return
