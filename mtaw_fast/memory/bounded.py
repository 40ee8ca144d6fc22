"""Build the tables within a limit of memory use: in one pass if it fits, else one range of items after the other.

The memory use of a pass has a bound: 12 bytes a click and 12 a session for its copy of the sessions; 9 a click, 4 a
session and 81 an item in addition; and 20 for each neighbor and 4 for each posting of its rows. An item has at most
`max_neighbors` neighbors, and at most as many as its sessions have other clicks. Ranges divide the rows; the rest does
not shrink if popular items are in most sessions. Axes: N items, S sessions, T clicks.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.memory.ranges import item_ranges, join_ranges, write_range
from mtaw_fast.memory.settings import MemorySettings
from mtaw_fast.memory.tables import MemoryTables
from mtaw_fast.storage.tensor_file import open_sealed_tensors

MAX_RANGES = 256
SCRATCH = ".tables-"
_SHARD = 1 << 20  # clicks of a shard
_PER_CLICK, _PER_SESSION, _PER_ITEM, _PER_PAIR, _PER_POSTING = 21, 16, 81, 20, 4


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
    clicks = np.zeros(n_items, np.int64)
    shards = list(shards_of(sessions.without_times()))
    for shard in shards:
        shard.check_ids(n_items, "memory tables")
        clicks += np.bincount(shard.items, minlength=n_items)
    with _scratch(folder) as name:
        parts = []
        for first, last in item_ranges(clicks, count):
            parts.append(Path(name) / f"rows-{first}")
            write_range(parts[-1], shards, n_items, settings, first, last, threads)
        path = Path(name) / "tables"
        join_ranges(path, parts, shards, settings)
        return MemoryTables.load(open_sealed_tensors(path, mapping="map"))


def _scratch(folder: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder)
    except OSError as error:
        raise MtawError(f"cannot write into {folder}: {error.strerror or error}; choose another folder") from None


def remove_left(folder: Path) -> None:
    """Remove the temporary files that `build_in_ranges` leaves in a folder if its process is killed."""
    for leftover in folder.glob(f"{SCRATCH}*"):
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
