"""The processor time of an event: appended once, then read, processed and learned by every worker."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.live.inputs import ALL, Shop, make_shop, portions, stream
from mtaw_fast.errors import MtawError
from mtaw_fast.online.log.event_log import START, LogEntry
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.state.event_processor import EventProcessor
from mtaw_fast.online.state.online_state import OnlineState

STAGES = ("append", "read", "ledger", "native")  # as results name them; "ledger" is the event processor
_CHUNK = 2000  # events between two readings of the clock


class Costs:
    """Microseconds of processor time per event, by stage: float64[chunks]; `total` is append + read + apply."""

    def __init__(self) -> None:
        self.of: dict[str, np.ndarray] = {}
        self._taken: dict[str, list[float]] = {}

    @contextmanager
    def stage(self, name: str, events: int) -> Iterator[None]:
        """Measure the work of `events` events."""
        begin = time.process_time_ns()
        yield
        self._taken.setdefault(name, []).append((time.process_time_ns() - begin) / 1e3 / events)

    def finish(self) -> None:
        """Build the arrays."""
        self.of = {name: np.array(times) for name, times in self._taken.items()}
        self.of["total"] = self.of["append"] + self.of["read"] + self.of["apply"]


def event_costs(n_items: int, past_clicks: int, n_events: int, batch: int, follow: int, folder: Path) -> Costs:
    """Measure events that are appended `batch` at a time and followed `follow` at a time.

    Raises
    ------
    MtawError
        If an event was not learned, or the single stages did not learn what the whole did.
    """
    shop = make_shop(n_items, past_clicks, n_events)
    events = stream(shop.later, n_events).clicks(ids=True)
    log = FileLog(folder / "log")
    state, plain = OnlineState(shop.model, ALL), OnlineState(shop.model, ALL)
    event_processor, sink = EventProcessor(shop.model, ALL), _RecordingSink()
    costs, position = Costs(), START
    for chunk in portions(events, _CHUNK):
        with costs.stage("append", len(chunk)):
            for batched in portions(chunk, batch):
                log.append(batched)
        read: list[list[LogEntry]] = []
        with costs.stage("read", len(chunk)):
            while entries := log.read(position, follow):
                read.append(entries)
                position = entries[-1].position
        with costs.stage("apply", len(chunk)):
            for entries in read:
                state.apply(entries)
        # The same again in parts: the processor with a sink that only records, then the recorded clicks.
        sink.steps = []
        with costs.stage("ledger", len(chunk)):
            for entries in read:
                event_processor.process(entries, sink)
        with costs.stage("native", len(chunk)):
            for handles, items in sink.steps:
                plain.delta.click(handles, items)
    log.close()
    _check(shop, state, plain, event_processor, n_events)
    costs.finish()
    return costs


def _check(shop: Shop, state: OnlineState, plain: OnlineState, event_processor: EventProcessor, n_events: int) -> None:
    counts = {
        "whole": state.delta.n_clicks,
        "native": plain.delta.n_clicks,
        "event_processor": event_processor.learned_clicks,
    }
    if set(counts.values()) != {n_events}:
        raise MtawError(
            f"event: {n_events} events gave {counts} learned clicks ({dict(state.event_processor.tracker.refused)})"
        )
    for item in shop.later.items[:50].tolist():
        (neighbors, values), (plain_neighbors, plain_values) = state.delta.row(item), plain.delta.row(item)
        if not (np.array_equal(neighbors, plain_neighbors) and np.array_equal(values, plain_values)):
            raise MtawError(f"event: the single stages learned another row of item {item} than the whole")


class _RecordingSink:
    """Records clicks."""

    def __init__(self) -> None:
        self.steps: list[tuple[np.ndarray, np.ndarray]] = []

    def click(self, handles: np.ndarray, items: np.ndarray, *more: object) -> None:  # noqa: ARG002
        self.steps.append((handles, items))

    def forget(self, handle: int) -> None:
        raise MtawError(f"event: session {handle} counts as a bot")

    def forget_in_tables(self, session: int) -> None:
        raise MtawError(f"event: session {session} of the past was forgotten")

    def add_prior(self, item: int, neighbor: int, sessions: int, time: int | None = None) -> None:
        raise MtawError(f"event: item {item} was added with neighbor {neighbor}, {sessions} sessions at {time}")

    def refresh_vectors(self) -> None:
        pass

    def recompute_vectors(self, items: Sequence[int]) -> None:
        pass
