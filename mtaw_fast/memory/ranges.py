"""Build the tables one range of items after the other, for logs that do not fit in memory at once.

A row depends only on the sessions that contain its item, and on their numbers. So each range is built from those
sessions alone, and the joined ranges equal, to the bit, what one pass builds. Axes: N items, S sessions, T clicks; R
ranges.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mtaw_fast.data.sessions import Sessions, offsets_of, ranges
from mtaw_fast.errors import DataError, MtawError, UsageError
from mtaw_fast.kernels.native.memory_tables import TABLES, build_tables
from mtaw_fast.memory.files import write_joined_tables
from mtaw_fast.memory.settings import MemorySettings
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors

_PAIRS = ("neighbors", "latest", "values")
_ITEMS = ("totals", "counts")
_OFFSETS = {"row_offsets": "neighbors", "post_offsets": "postings"}


def item_ranges(clicks: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Return at most `count` ranges [first, last) of the N items, none empty, with about equally many clicks.

    clicks: int64[N], on every item. Raises UsageError on a count below 1.
    """
    if count < 1:
        raise UsageError(f"the number of item ranges must be at least 1, not {count}")
    # Plus one, so that items without a click count too.
    ends = np.cumsum(clicks + 1)
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, count) / count) + 1 if len(ends) else np.empty(0, np.int64)
    bounds = np.unique(np.concatenate([[0], cuts, [len(clicks)]])).tolist()
    return list(itertools.pairwise(bounds))


def touching(shards: Iterable[Sessions], first: int, last: int) -> Sessions:
    """Return all S sessions of the shards, in order; a session without an item of [first, last) has no clicks.

    Such empty sessions cost 8 bytes each. They are there so that the others keep their numbers.
    """
    lengths, items = [], []
    for shard in shards:
        inside = (shard.items >= first) & (shard.items < last)
        kept = np.diff(offsets_of(inside)[shard.offsets]) > 0
        lengths.append(np.where(kept, shard.lengths, 0))
        items.append(shard.items[ranges(shard.offsets[:-1][kept], shard.lengths[kept])])
    return Sessions(
        np.concatenate([np.empty(0, np.int32), *items]), offsets_of(np.concatenate([np.empty(0, np.int64), *lengths]))
    )


def write_range(
    path: Path,
    shards: Iterable[Sessions],
    n_items: int,
    settings: MemorySettings,
    first: int,
    last: int,
    threads: int = 1,
) -> None:
    """Build the rows of items [first, last) into a file for `join_ranges`, atomically.

    shards: all sessions, oldest first, in any number of pieces; each is read once. settings: with `recency` as a
    number, since a share of all sessions is unknown here.

    Raises DataError on an item outside 0..N-1, or more than 2^31 - 1 clicks in the sessions of the range: take more
    ranges.
    """
    sessions = touching(shards, first, last)
    try:
        tables = build_tables(
            sessions.items, sessions.offsets, n_items, settings.native, threads=threads, first=first, last=last
        )
    except (ValueError, IndexError) as error:
        raise DataError(f"memory tables, items {first} to {last - 1}: {error}; take more ranges") from None
    rows = {name: tables[name] for name in (*_PAIRS, "postings")}
    rows |= {name: tables[name][first:last] for name in _ITEMS}
    rows |= {name: tables[name][first : last + 1] for name in _OFFSETS}
    write_tensors(path, rows)


def join_ranges(path: Path, parts: Sequence[Path], shards: Sequence[Sessions], settings: MemorySettings) -> None:
    """Join the files of `write_range`, in the order of their items, and the sessions into one file of tables.

    The rows are not kept in memory and are written once. `MemoryTables.load` reads the result. Raises DataError if a
    file is damaged, MtawError if the result cannot be written.
    """
    files = [map_tensors(part, "map") for part in parts]
    pieces: dict[str, list[np.ndarray]] = {name: [part[name] for part in files] for name in TABLES if name in files[0]}
    for name in _OFFSETS:
        pieces[name] = joined_offsets(pieces[name])
    pieces["session_offsets"] = joined_offsets([shard.offsets for shard in shards])
    pieces["session_items"] = [shard.items for shard in shards]
    try:
        write_joined_tables(path, {name: pieces[name] for name in TABLES}, settings)
    except OSError as error:
        raise MtawError(f"cannot write {path}: {error.strerror}; free some space or choose another folder") from None


def joined_offsets(offsets: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return offsets, which each begin at 0, shifted so that each continues the one before."""
    ends = offsets_of(np.array([array[-1] for array in offsets], np.int64))
    return [np.zeros(1, np.int64), *(array[1:] + end for array, end in zip(offsets, ends, strict=False))]
