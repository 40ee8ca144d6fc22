"""The processor time of an event: appended once, then read, processed and learned by every worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.live.inputs import ALL, make_shop, portions, stream
from mtaw_fast.errors import MtawError
from mtaw_fast.online.log.event_log import START, LogEntry
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.state.online_state import OnlineState

STAGES = ("append", "read", "apply")
_CHUNK = 2000  # events between two readings of the clock


def event_costs(
    n_items: int, past_clicks: int, n_events: int, batch: int, follow: int, folder: Path
) -> dict[str, np.ndarray]:
    """Return microseconds of processor time per event, float64[chunks], by stage and in all (`total`).

    Events are appended `batch` at a time and followed `follow` at a time.

    Raises
    ------
    MtawError
        If an event was not learned.
    """
    shop = make_shop(n_items, past_clicks, n_events)
    events = stream(shop.later, n_events).clicks(ids=True)
    log, state, position = FileLog(folder / "log"), OnlineState(shop.model, ALL), START
    taken: dict[str, list[float]] = {stage: [] for stage in STAGES}

    @contextmanager
    def stage(name: str, count: int) -> Iterator[None]:
        begin = time.process_time_ns()
        yield
        taken[name].append((time.process_time_ns() - begin) / 1e3 / count)

    for chunk in portions(events, _CHUNK):
        with stage("append", len(chunk)):
            for batched in portions(chunk, batch):
                log.append(batched)
        read: list[list[LogEntry]] = []
        with stage("read", len(chunk)):
            while entries := log.read(position, follow):
                read.append(entries)
                position = entries[-1].position
        with stage("apply", len(chunk)):
            for entries in read:
                state.apply(entries)
    log.close()
    if state.delta.n_clicks != n_events:
        refused = dict(state.event_processor.tracker.refused)
        raise MtawError(f"event: {n_events} events gave {state.delta.n_clicks} learned clicks ({refused})")
    costs = {name: np.array(times) for name, times in taken.items()}
    return {"total": sum(costs.values(), np.zeros(1)), **costs}
