"""Memory use of learning: of a worker, of a compaction and of a redaction, each in a process of its own.

Figures are the growth of resident memory over what the process holds before its work: interpreter, libraries and, for a
worker, the loaded bundle.
"""

from __future__ import annotations

import gc
import shutil
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench.harness.peak_memory import in_new_process, peak_of_prepared, restarted_peak
from bench.live.inputs import ALL, Shop, portions, stream
from mtaw_fast.bundle import Bundle
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import Forget
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.system.memory_use import peak_memory

_PORTION = 1000
_READ = 2000  # events at a time, as a worker reads them
_HOUR = 3_600_000


class WorkerMemory(NamedTuple):
    """Bytes that a worker holds more than before the first event. delta: the part of them in the native delta."""

    events: int
    total: int
    delta: int


def log_events(shop: Shop, n_events: int, folder: Path, step: int) -> None:
    """Log `n_events` clicks of a shop in `folder`, one every `step` ms, with event ids and arrival times.

    One more click, an hour later, ends their sessions.
    """
    clicks = stream(shop.later, n_events, step=step).clicks("visitor-", ids=True)
    clicks.append(clicks[-1]._replace(session="latest", id=None, time=clicks[-1].time + _HOUR))
    log = FileLog(folder)
    for portion in portions(clicks, _PORTION):
        log.append([click._replace(arrived=click.time) for click in portion])
    log.close()


def worker(bundle: Path, folder: Path) -> WorkerMemory:
    """Return the memory use of a new process that has learned the whole log."""
    return in_new_process("a worker", _worker, bundle, folder)


def _worker(bundle: Path, folder: Path) -> WorkerMemory:
    log, state = FileLog(folder), OnlineState(Bundle.load(bundle).model, ALL)
    before = restarted_peak()
    count = _learn(log, state)
    return WorkerMemory(count, restarted_peak() - before, state.delta.n_bytes)


def traced_worker(bundle: Path, folder: Path) -> tuple[int, int]:
    """Return the bytes that Python's objects of such a worker take at the end, and at their peak.

    They are exact, while resident memory comes and goes by whole arenas of 1 MiB. The native delta does not count.
    """
    traced: tuple[int, int] = in_new_process("a worker", _traced_worker, bundle, folder)
    return traced


def _traced_worker(bundle: Path, folder: Path) -> tuple[int, int]:
    log, state = FileLog(folder), OnlineState(Bundle.load(bundle).model, ALL)
    gc.collect()
    tracemalloc.start()
    _learn(log, state)
    return tracemalloc.get_traced_memory()


def _learn(log: FileLog, state: OnlineState) -> int:
    """Apply a whole log; return how many events it has."""
    position, count = START, 0
    while entries := log.read(position, _READ):
        state.apply(entries)
        position = entries[-1].position
        count += len(entries)
    return count


def compaction(bundle: Path, folder: Path) -> int:
    """Compact a log; return by how many bytes the peak exceeded the idle process. The bundles' tables count."""
    return peak_of_prepared(_prepared_compaction, bundle, folder)


def _prepared_compaction(bundle: Path, folder: Path) -> Callable[[], Any]:
    return partial(compact_folder, bundle, LearningSettings(folder, limits=ALL))


def redaction(folder: Path, session: str, work: Path) -> tuple[int, float]:
    """Redact a session in a copy of a log; return the bytes that the peak grew by, and the seconds that it took."""
    shutil.copytree(folder, work)
    log = FileLog(work)
    position = log.append([Forget(session, 0)])
    log.close()
    return in_new_process("a redaction", _redaction, work, {session: position})


def _redaction(folder: Path, forgotten: dict[str, str]) -> tuple[int, float]:
    log = FileLog(folder)
    before, begin = restarted_peak(), time.perf_counter()
    log.redact(forgotten)
    return peak_memory() - before, time.perf_counter() - begin
