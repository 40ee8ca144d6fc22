"""Compaction: finished sessions are merged into the tables of a model, open ones are carried along.

Everything is computed again from the log, so that the tables equal those that a training from the same sessions builds.

Axes: S sessions of the tables, L of them from the log, N items, E clicks.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.errors import LearnError
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.model.model import Model
from mtaw_fast.online.compaction.merge import ModelChanges, merge
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import Click, now_ms
from mtaw_fast.online.settings import DAY_MS, LearningLimits
from mtaw_fast.online.state.event_processor import EventProcessor

_Columns = tuple[  # handle, item, time, context and type of clicks
    np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None
]
_LINES = 10_000  # clicks that are written as lines at a time


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
    duplicates: list[str] | None = None,
) -> Model:
    """Return the model with everything learned from it and from the events after its position.

    Its tables are, to the bit, those of a rebuild from the remaining sessions, ordered by last click.

    log: the identity of the events' log. limits: the same as in the processes that serve. keep: milliseconds; sessions
    from the log are dropped whose last click is so much older than the newest event, or than now if that event is in
    the future. all_over: whether every session counts as finished, so that none is carried along. since: see
    `EventProcessor`. threads: for the tables. refused: receives the clicks that were not learned, by reason.
    duplicates: receives the positions of clicks whose ids had been seen.

    Raises UnconfirmedTimeError if the log's times jumped forward and that is not confirmed.
    """
    columns = 0 if model.context is None else len(model.context.columns.names)
    event_processor = EventProcessor(model, limits, since)
    collector = CollectedClicks(columns, model.types is not None)
    event_processor.start(collector)
    repeated = event_processor.tracker.duplicates = list[Click]()
    for entries in events:
        event_processor.process(entries, collector)
        if repeated and duplicates is not None:
            identities = set(map(id, repeated))
            duplicates += [entry.position for entry in entries if id(entry.event) in identities]
        repeated.clear()
    event_processor.remember_former()  # also if no event came after them
    if refused is not None:
        refused.update(event_processor.refused + event_processor.tracker.refused)
    if jump := event_processor.tracker.clock.jump(now_ms()):
        raise UnconfirmedTimeError(jump)
    changes = _Compaction(model, event_processor, collector, keep, all_over, since).changes(log)
    del event_processor, collector  # `changes` has what is needed of them, and merging takes the most memory
    return merge(model, changes, threads=threads)


class UnconfirmedTimeError(LearnError):
    """The log's times jumped forward, and nothing says yet that the hosts' clocks are right."""

    def __init__(self, jump: int) -> None:
        super().__init__(
            f"the newest clicks arrived {jump / DAY_MS:.1f} days after those before them, so nothing is compacted: set "
            "the clock of the host right, or run `mtaw-fast compact` with --confirm-clock if it is; 64 clicks over 6 "
            "hours confirm it too"
        )


class CollectedClicks:
    """An `EventSink` that stores clicks in the log's order: 16 bytes each, 2 a context column, and 1 for a type.

    n_columns: context columns of the model. typed: whether it keeps the types of clicks. dropped: indices, in the
    model's tables, of sessions that were forgotten.
    """

    def __init__(self, n_columns: int, typed: bool) -> None:
        self.dropped: set[int] = set()
        self._forgotten: set[int] = set()
        self._handles, self._items, self._times = array("i"), array("i"), array("q")
        self._n_columns, self._context = n_columns, array("H")
        self._typed, self._types = typed, array("B")

    def click(
        self, handles: np.ndarray, items: np.ndarray, times: np.ndarray, context: np.ndarray | None = None,
        types: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self._handles.frombytes(handles.astype(np.int32).tobytes())
        self._items.frombytes(items.tobytes())
        self._times.frombytes(times.tobytes())
        if context is not None:
            self._context.frombytes(context.tobytes())
        if types is not None:
            self._types.frombytes(types.tobytes())

    def forget(self, handle: int) -> None:
        self._forgotten.add(handle)

    def forget_in_tables(self, base_session: int) -> None:
        self.dropped.add(base_session)

    def add_prior(self, item: int, neighbor: int, sessions: int, time: int | None = None) -> None:
        pass  # the event processor stores priors

    def recompute_vectors(self, internal_ids: Sequence[int]) -> None:
        pass  # as below

    def refresh_vectors(self) -> None:
        pass  # `merge` computes the vectors from the new tables

    def sessions(self) -> tuple[np.ndarray, Sessions]:
        """Return the handles int32[S] of sessions that were not forgotten, ascending, and their clicks with times,
        types and context."""
        handles, items, times, context, types = self._arrays()
        order = np.argsort(handles, kind="stable")
        if self._forgotten:
            order = order[~np.isin(handles[order], self._forgotten_handles())]
        session_handles, lengths = np.unique(handles[order], return_counts=True)
        codes = None if context is None else context[order]
        kinds = None if types is None else types[order]
        return session_handles, Sessions(items[order], offsets_of(lengths), times[order], kinds, codes)

    def of(self, handles: np.ndarray) -> _Columns:
        """Return the clicks of some sessions that were not forgotten, in the log's order."""
        all_handles, items, times, context, types = self._arrays()
        chosen = np.isin(all_handles, np.setdiff1d(handles, self._forgotten_handles()))
        codes = None if context is None else context[chosen]
        return all_handles[chosen], items[chosen], times[chosen], codes, None if types is None else types[chosen]

    def _arrays(self) -> _Columns:
        context = None
        if self._n_columns:
            context = np.frombuffer(self._context, dtype=np.uint16).reshape(-1, self._n_columns)
        return (
            np.frombuffer(self._handles, dtype=np.int32),
            np.frombuffer(self._items, dtype=np.int32),
            np.frombuffer(self._times, dtype=np.int64),
            context,
            np.frombuffer(self._types, dtype=np.uint8) if self._typed else None,
        )

    def _forgotten_handles(self) -> np.ndarray:
        return np.fromiter(self._forgotten, dtype=np.int32, count=len(self._forgotten))


class _Compaction:
    def __init__(
        self,
        model: Model,
        event_processor: EventProcessor,
        collector: CollectedClicks,
        keep: int | None,
        all_over: bool,
        since: int | None,
    ) -> None:
        self._before, self._event_processor, self._collector = model, event_processor, collector
        self._old = model.log_progress or LogProgress("", "")
        self._since = self._old.since if since is None else since
        self._open = {} if all_over else event_processor.tracker.open_handles
        self._open_sessions = {} if all_over else event_processor.tracker.open_sessions()
        self._handles, self._sessions = collector.sessions()
        assert self._sessions.times is not None
        self._last = self._sessions.times[self._sessions.offsets[1:] - 1]
        is_over = ~np.isin(self._handles, np.array(list(self._open), dtype=np.int32))
        over = np.flatnonzero(is_over)
        self._over = over[np.lexsort((self._handles[over], self._last[over]))]
        dropped = set(collector.dropped)
        if keep is not None:
            newest = min(event_processor.tracker.clock.now, now_ms())  # a clock that was ahead makes no session old
            dropped.update(self._old.sessions[self._old.last < newest - keep].tolist())
        self._dropped = np.array(sorted(dropped), dtype=np.int32)

    def changes(self, log: str) -> ModelChanges:
        new_items = self._event_processor.items.new_items
        vectors = np.zeros((len(new_items), self._before.config.model.embedding_dim), dtype=np.float32)
        for index in range(len(new_items)):
            if (content := new_items[index].content) is not None:
                vectors[index] = content
        over, table = self._sessions.select(self._over), self._event_processor.items.table()
        return ModelChanges(over, self._dropped, new_items.ids, vectors, self._log_progress(log), table)

    def _log_progress(self, log: str) -> LogProgress:
        event_processor, old = self._event_processor, self._old
        n_items, n_new = self._before.n_items, len(event_processor.items.new_items)
        keys, sessions, last = self._logged_sessions()
        unavailable = np.flatnonzero(event_processor.items.unavailable[: n_items + n_new])
        hidden = np.array(sorted(event_processor.items.hidden), dtype=np.int32)
        unfinished = [part.line() for part in event_processor.table_parts.unfinished]
        priors = np.array(event_processor.priors, dtype=np.int64).reshape(-1, 3)
        given, displays = event_processor.items.given, event_processor.items.displays
        return LogProgress(
            log=log,
            position=event_processor.position,
            clock_state=event_processor.tracker.clock.state(),
            keys=keys,
            sessions=sessions,
            last=last,
            seen=event_processor.tracker.seen(),
            untrained=np.concatenate([old.untrained, np.arange(n_items, n_items + n_new, dtype=np.int32)]),
            removed=np.setdiff1d(unavailable, hidden).astype(np.int32),
            hidden=hidden,
            seed_items=priors[:, 0].astype(np.int32),
            seed_neighbors=priors[:, 1].astype(np.int32),
            seed_times=np.ascontiguousarray(priors[:, 2]),
            given_items=np.array(list(given), dtype=np.int32),
            given_vectors=np.array(list(given.values()), dtype=np.float32).ravel(),
            carried=np.frombuffer(b"\n".join(filter(None, [self._carried(), *unfinished])), dtype=np.uint8),
            open=self._open_sessions,
            since=self._since,
            content_priors=event_processor.content_priors,
            entered=event_processor.items.new_items.entered,
            added=sorted(event_processor.items.added),
            left=sorted(event_processor.items.left),
            candidates={item: sorted(keys) for item, keys in event_processor.items.new_items.candidates.items()},
            guards=event_processor.guards.state(),
            removed_ids=sorted(event_processor.items.removed_ids, key=str),
            displays=[(item, int(displays[item])) for item in np.flatnonzero(displays).tolist()],
            refused_tables=event_processor.table_parts.refused,
        )

    def _logged_sessions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the log's sessions in the new tables: keys uint64[L] ascending, sessions int32[L], last int64[L]."""
        assert self._before.memory is not None
        old, remains = self._old, ~np.isin(self._old.sessions, self._dropped)
        kept = old.sessions[remains]
        kept = kept - np.searchsorted(self._dropped, kept).astype(np.int32)
        first = self._before.memory.n_sessions - len(self._dropped)
        keys = np.concatenate([old.keys[remains], self._event_processor.tracker.keys[self._handles[self._over]]])
        sessions = np.concatenate([kept, first + np.arange(len(self._over), dtype=np.int32)])
        last = np.concatenate([old.last[remains], self._last[self._over]])
        order = np.lexsort((sessions, keys))
        return keys[order], sessions[order], last[order]

    def _carried(self) -> bytes:
        """Return the clicks of open sessions as lines, in the log's order, without event ids: `seen` holds those."""
        handles, items, times, context, types = self._collector.of(np.array(list(self._open), dtype=np.int32))
        lines = bytearray()
        for begin in range(0, len(handles), _LINES):
            part = slice(begin, begin + _LINES)
            internal_ids = items[part]
            values: list[dict[str, str] | None] = [None] * len(internal_ids)
            if context is not None and self._before.context is not None:
                values = [self._before.context.columns.values_of(codes) for codes in context[part]]
            kinds = [None] * len(internal_ids) if types is None else self._before.click_types.names_of(types[part])
            columns = handles[part].tolist(), self._external(internal_ids), times[part].tolist(), values, kinds
            lines += b"".join(
                Click(self._open[handle], item, time, kind, context=visit).line() + b"\n"
                for handle, item, time, visit, kind in zip(*columns, strict=True)
            )
        return bytes(lines[:-1])

    def _external(self, internal_ids: np.ndarray) -> list[int | str]:
        n_items, ids = self._before.n_items, self._event_processor.items.new_items.ids
        known_ids = iter(self._before.ids.external(internal_ids[internal_ids < n_items]))
        return [next(known_ids) if place < n_items else ids[place - n_items] for place in internal_ids.tolist()]
