"""The time of a compaction, and the bytes that it writes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.live.inputs import ALL, Shop, portions, stream
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import MtawError
from mtaw_fast.memory import MemoryTables
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningSettings

_PORTION = 1000


@dataclass(frozen=True, slots=True)
class Compaction:
    """The measurements of a compaction.

    seconds: time to compact `events` events. nbytes: size of the bundle written. log_bytes: size of the log.
    """

    events: int
    seconds: float
    nbytes: int
    log_bytes: int


def compaction(shop: Shop, bundle: Path, n_events: int, folder: Path) -> Compaction:
    """Log the first `n_events` events of a shop in `folder`, with all sessions finished, and compact them.

    Raises
    ------
    MtawError
        If the compacted tables differ from a rebuild's in any bit.
    """
    events = stream(shop.later, n_events)
    log = FileLog(folder)
    for portion in portions(events.clicks(), _PORTION):
        log.append(portion)
    # A click an hour later finishes all sessions before it.
    log.append([Click("latest", 1, int(events.times[-1]) + 3_600_000)])
    log_bytes = log.n_bytes
    log.close()
    begin = time.perf_counter()
    written = compact_folder(bundle, LearningSettings(folder, limits=ALL))
    seconds = time.perf_counter() - begin
    assert written is not None
    compacted = Bundle.load(written)
    _check(shop, compacted.model.memory, events.ordered(), n_events)
    nbytes = sum(path.stat().st_size for path in compacted.folder.iterdir())
    return Compaction(n_events, seconds, nbytes, log_bytes)


def _check(shop: Shop, compacted: MemoryTables | None, over: Sessions, n_events: int) -> None:
    memory = shop.model.memory
    assert memory is not None
    assert compacted is not None
    rebuilt = MemoryTables.build(Sessions.concatenate([memory.sessions, over]), memory.n_items, compacted.settings)
    for name, array in rebuilt.arrays().items():
        if not np.array_equal(array, getattr(compacted, name)):
            raise MtawError(f"compact: after {n_events} events {name} differs from that of tables built from all")
