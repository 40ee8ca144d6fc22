"""Build the trends within a limit of memory use: in one pass if it fits, else one range of items after the other.

A row depends only on the clicks around those on its item, and all rows have the same clock. So the joined ranges equal
what one pass builds, to the bit. A pass takes at most 21 bytes a click, 12 more if it has to sort a session's clicks by
time, and 48 for each kept pair: its own and those of the arrays that it returns. Axes: N items, T clicks, P kept pairs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.errors import MtawError
from mtaw_fast.memory.bounded import SCRATCH, PassBytes, shards_of
from mtaw_fast.memory.ranges import item_ranges
from mtaw_fast.memory.trends import TrendSettings, TrendTables, build_arrays, write_trends
from mtaw_fast.storage.sealed_file import SealedFile
from mtaw_fast.storage.tensor_file import map_tensors, open_sealed_tensors, write_tensors

_PER_CLICK, _PER_ITEM, _PER_PAIR = 21, 320, 48
_PER_SORTED, _PER_SORTED_CODE = 12, 2  # bytes a click, and column of context, of the copy in the order of time
_PER_CONTEXT_SUM = 24  # bytes a click and column of context
_OFFSETS = {"row_offsets", "context_offsets"}
_WHOLE = {"sums", "clock", "context_sizes", "context_totals"}  # the same in every range


def trend_bytes(sessions: Sessions, n_items: int, settings: TrendSettings) -> PassBytes:
    """Return a bound on the bytes that `TrendTables.build` needs for these sessions, including its result."""
    others = np.zeros(n_items)
    for shard in shards_of(sessions):
        near = np.repeat(np.minimum(shard.lengths - 1, 2 * settings.window), shard.lengths)
        others += np.bincount(shard.items, near.astype(np.float64), minlength=n_items)
    pairs = int(np.minimum(others, settings.max_neighbors or n_items).sum())
    columns = 0 if sessions.context is None else sessions.context.shape[1]
    per_click = _PER_CLICK + _PER_CONTEXT_SUM * columns
    if not all(map(_is_by_time, shards_of(sessions))):
        per_click += _PER_SORTED + _PER_SORTED_CODE * columns
    return PassBytes(per_click * sessions.n_clicks + _PER_ITEM * n_items, _PER_PAIR * pairs)


def _is_by_time(sessions: Sessions) -> bool:
    """Whether the clicks of every session are in the order of time."""
    if sessions.times is None:
        return True
    in_order = sessions.times[1:] >= sessions.times[:-1]
    inner = sessions.offsets[(sessions.offsets > 0) & (sessions.offsets < sessions.n_clicks)]  # a session may be empty
    in_order[inner - 1] = True  # a session's last click and the first of the next
    return bool(in_order.all())


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
    clicks = np.zeros(n_items, np.int64)
    for shard in shards_of(sessions):
        clicks += np.bincount(shard.items, minlength=n_items)
    try:
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder) as name:
            parts = []
            for first, last in item_ranges(clicks, count):
                parts.append(Path(name) / f"trends-{first}")
                arrays = build_arrays(
                    sessions, times, n_items, settings, threads=threads, context_sizes=context_sizes, first=first,
                    last=last,
                )  # fmt: skip
                write_tensors(parts[-1], arrays)
                del arrays
            path = Path(name) / "trends"
            _join(path, parts, settings)
            sealed: SealedFile = open_sealed_tensors(path, mapping="map")
            return TrendTables.load(sealed)
    except OSError as error:
        raise MtawError(f"cannot write into {folder}: {error.strerror or error}; choose another folder") from None


def _join(path: Path, parts: Sequence[Path], settings: TrendSettings) -> None:
    files = [map_tensors(part, "map") for part in parts]
    pieces = {name: [part[name] for part in files] for name in files[0]}
    for name, arrays in pieces.items():
        if name in _WHOLE:
            pieces[name] = arrays[:1]
        elif name in _OFFSETS:
            ends = offsets_of(np.array([array[-1] for array in arrays], np.int64))
            pieces[name] = [np.zeros(1, np.int64), *(array[1:] + end for array, end in zip(arrays, ends, strict=False))]
    write_trends(path, pieces, settings)
