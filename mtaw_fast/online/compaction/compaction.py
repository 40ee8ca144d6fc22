"""Compaction: finished sessions are merged into the tables of a model, open ones are carried along.

Everything is computed again from the log, so that the tables equal those that a training from the same sessions builds.

Axes: S sessions of the tables, L of them from the log, N items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.model.model import Model
from mtaw_fast.online.compaction.merge import ModelChanges, merge
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.event_processor import EventProcessor

REMEMBERED_IDS = 100_000  # event ids that a model stores to recognize duplicates


def compact_model(
    model: Model,
    log: str,
    events: Iterable[list[LogEntry]],
    limits: LearningLimits,
    *,
    keep: int | None = None,
    all_over: bool = False,
    since: int | None = None,
    threads: int = 1,
    refused: Counter[str] | None = None,
) -> Model:
    """Return the model with everything learned from it and from the events after its position.

    Parameters
    ----------
    model : Model
        With a session memory; not changed.
    log : str
        The identity of the events' log.
    events : iterable of lists of LogEntry
        The events after the model's position, in order.
    limits : LearningLimits
        Limits on what is learned from whom: the same as in the processes that serve.
    keep : int, optional
        Milliseconds: drop sessions from the log whose last click is so much older than the newest event.
    all_over : bool, default False
        Whether every session counts as finished, so that none is carried along.
    since : int, optional
        See `EventProcessor`.
    threads : int, default 1
        For the tables.
    refused : Counter, optional
        Receives the clicks that were not learned, by reason.

    Returns
    -------
    Model
        Its tables are, to the bit, those of a rebuild from the remaining sessions, ordered by last click.
    """
    event_processor, collector = EventProcessor(model, limits, since), _Collector()
    event_processor.start(collector)
    for some in events:
        event_processor.process(some, collector)
    if refused is not None:
        refused.update(event_processor.refused + event_processor.tracker.refused)
    return _Compaction(model, event_processor, collector, keep, all_over, since).model(log, threads)


class _Compaction:
    def __init__(
        self,
        model: Model,
        event_processor: EventProcessor,
        collector: _Collector,
        keep: int | None,
        all_over: bool,
        since: int | None,
    ) -> None:
        self._before, self._event_processor, self._collector = model, event_processor, collector
        self._old = model.log_progress or LogProgress("", "", 0)
        self._since = self._old.since if since is None else since
        open_handles = {} if all_over else event_processor.tracker.open_sessions()
        self._ongoing = {} if all_over else event_processor.tracker.ongoing
        self._open = {handle: name for name, handle in open_handles.items() if handle in collector.sessions}
        over = [handle for handle in collector.sessions if handle not in self._open]
        self._over = sorted(over, key=lambda handle: (collector.sessions[handle].times[-1], handle))
        dropped = set(collector.dropped)
        if keep is not None:
            dropped.update(self._old.sessions[self._old.last < event_processor.tracker.clock - keep].tolist())
        self._dropped = np.array(sorted(dropped), dtype=np.int32)

    def model(self, log: str, threads: int) -> Model:
        new_items, sessions = self._event_processor.new_items, self._collector.sessions
        items = [sessions[handle].items for handle in self._over]
        packed = Sessions(
            np.array([item for one in items for item in one], dtype=np.int32),
            offsets_of(np.array([len(one) for one in items], dtype=np.int64)),
            np.array([time for handle in self._over for time in sessions[handle].times], dtype=np.int64),
        )
        vectors = np.zeros((len(new_items), self._before.config.model.embedding_dim), dtype=np.float32)
        for place in range(len(new_items)):
            given = new_items[place].vector
            if given is not None:
                vectors[place] = given
        changes = ModelChanges(packed, self._dropped, new_items.ids, vectors, self._log_progress(log))
        return merge(self._before, changes, threads=threads)

    def _log_progress(self, log: str) -> LogProgress:
        event_processor, old = self._event_processor, self._old
        n_items, n_new = self._before.n_items, len(event_processor.new_items)
        keys, places, last = self._sessions()
        gone = np.flatnonzero(event_processor.gone[: n_items + n_new])
        hidden = np.array(sorted(event_processor.hidden), dtype=np.int32)
        priors = np.array(event_processor.priors, dtype=np.int32).reshape(-1, 2)
        return LogProgress(
            log=log,
            position=event_processor.position,
            clock=event_processor.tracker.clock,
            keys=keys,
            sessions=places,
            last=last,
            seen=np.array(event_processor.tracker.seen[-REMEMBERED_IDS:], dtype=np.uint64),
            untrained=np.concatenate([old.untrained, np.arange(n_items, n_items + n_new, dtype=np.int32)]),
            removed=np.setdiff1d(gone, hidden).astype(np.int32),
            hidden=hidden,
            seed_items=np.ascontiguousarray(priors[:, 0]),
            seed_neighbors=np.ascontiguousarray(priors[:, 1]),
            carried=np.frombuffer(b"\n".join(self._carried()), dtype=np.uint8),
            open=self._ongoing,
            since=self._since,
        )

    def _sessions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (keys uint64[L] ascending, places int32[L], last int64[L]) of the log's sessions in the new tables."""
        assert self._before.memory is not None
        old, left = self._old, ~np.isin(self._old.sessions, self._dropped)
        kept = old.sessions[left]
        kept = kept - np.searchsorted(self._dropped, kept).astype(np.int32)
        first = self._before.memory.n_sessions - len(self._dropped)
        place_of = {handle: first + rank for rank, handle in enumerate(self._over)}
        named = [
            (key, place_of[handle], self._collector.sessions[handle].times[-1])
            for key, handles in self._event_processor.tracker.keys.items()
            for handle in handles
            if handle in place_of
        ]
        keys = np.concatenate([old.keys[left], np.array([one[0] for one in named], dtype=np.uint64)])
        places = np.concatenate([kept, np.array([one[1] for one in named], dtype=np.int32)])
        last = np.concatenate([old.last[left], np.array([one[2] for one in named], dtype=np.int64)])
        order = np.lexsort((places, keys))
        return keys[order], places[order], last[order]

    def _carried(self) -> list[bytes]:
        """Return the clicks of open sessions as lines, in the log's order, without event ids: `seen` holds those."""
        clicks = sorted(
            (order, handle, item, time)
            for handle in self._open
            for order, item, time in self._collector.sessions[handle].clicks()
        )
        names = self._external(np.array([item for _, _, item, _ in clicks], dtype=np.int32))
        return [
            Click(self._open[handle], name, time).line()
            for (_, handle, _, time), name in zip(clicks, names, strict=True)
        ]

    def _external(self, places: np.ndarray) -> list[int | str]:
        n_items, ids = self._before.n_items, self._event_processor.new_items.ids
        known = iter(self._before.ids.external(places[places < n_items]))
        return [next(known) if place < n_items else ids[place - n_items] for place in places.tolist()]


@dataclass(slots=True)
class _Session:
    orders: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)

    def clicks(self) -> Iterable[tuple[int, int, int]]:
        """Return (place in the log's order, item, time) of each click."""
        return zip(self.orders, self.items, self.times, strict=True)


class _Collector:
    """An `EventSink` that stores sessions as they are."""

    def __init__(self) -> None:
        self.sessions: dict[int, _Session] = {}
        self.dropped: set[int] = set()
        self._count = 0

    def click(self, handles: np.ndarray, items: np.ndarray, times: np.ndarray) -> None:
        for handle, item, time in zip(handles.tolist(), items.tolist(), times.tolist(), strict=True):
            session = self.sessions.setdefault(handle, _Session())
            session.orders.append(self._count)
            session.items.append(item)
            session.times.append(time)
            self._count += 1

    def forget(self, handle: int) -> None:
        self.sessions.pop(handle, None)

    def forget_in_tables(self, place: int) -> None:
        self.dropped.add(place)

    def add_prior(self, item: int, neighbor: int) -> None:
        pass  # the event processor stores priors

    def refresh_vectors(self) -> None:
        pass  # `merge` computes the vectors from the new tables
