"""Updating a model with a log file: its clicks become events, except those that the model already knows.

Axes: T clicks of the log, B sessions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np

from mtaw_fast.data.bots import BotRule
from mtaw_fast.data.readers import ClickStream
from mtaw_fast.errors import UsageError
from mtaw_fast.memory.log_progress import AGELESS, LogProgress
from mtaw_fast.model.model import Model
from mtaw_fast.online.compaction.compaction import compact_model
from mtaw_fast.online.log.event_log import START, LogEntry
from mtaw_fast.online.log.events import Click, Event, Forget, parse
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.session_tracker import key_of

_BETWEEN_CLICKS = 1000  # ms between two clicks of a log without times
_NEVER = 2**52  # ms of `session_gap`: the sessions of a log file are already separate
_CHUNK = 4096


def log_limits(limits: LearningLimits | None = None, **changes: Any) -> LearningLimits:
    """Return the limits for a log file, where an id is one session, however long its pauses are."""
    return replace(limits or LearningLimits(), **{"session_gap": _NEVER, **changes})


@dataclass(frozen=True, slots=True, eq=False)
class LogFile:
    """The clicks of a log file, and which of them a model does not know yet.

    times: int64[T], in milliseconds; if the log has none, they are made up, one second apart. fresh: bool[T], whether
    the click is to be learned: its session is no bot, and ends after the last click that the model learned, which was
    trained on earlier sessions, or left them out. bots: bool[B], whether each session is a bot's: bots teach nothing,
    and `replay` scores none of their clicks.
    """

    stream: ClickStream
    times: np.ndarray
    fresh: np.ndarray
    model: Model
    bots: np.ndarray

    @classmethod
    def of(cls, stream: ClickStream, model: Model, rule: BotRule | None = None) -> LogFile:
        """Compare a stream of clicks with a model. rule: what a bot is; None: the format knows no bots.

        Raises UsageError if the model has no session memory.
        """
        if model.memory is None:
            raise UsageError("this bundle has no session memory, so it learns nothing from a log; train one with "
                             "--preset full")  # fmt: skip
        fresh = np.ones(len(stream), dtype=bool)
        if stream.times is None:
            clock = 0 if model.log_progress is None else model.log_progress.clock
            times = clock + _BETWEEN_CLICKS * np.arange(1, len(stream) + 1, dtype=np.int64)
        else:
            times = stream.times
            if model.learned_until is not None and len(stream):
                ends = np.full(int(stream.sessions.max()) + 1, -1, dtype=np.int64)
                np.maximum.at(ends, stream.sessions, times)
                fresh = (ends > model.learned_until)[stream.sessions]
        bots = np.zeros(len(stream.session_ids), dtype=bool)
        if rule is not None:
            bots = rule.bots(stream.sessions, stream.times, len(bots))
        return cls(stream, times, fresh & ~bots[stream.sessions], model, bots)

    @property
    def bot_clicks(self) -> int:
        """Clicks of bots."""
        return int(np.count_nonzero(self.bots[self.stream.sessions]))

    def names(self) -> list[str]:
        """Return the id of each session; without times it starts with a hash of the log, as such logs count from 0."""
        stream = self.stream
        if stream.times is not None:
            return [str(session_id) for session_id in stream.session_ids]
        ids = [stream.item_ids[item] for item in np.unique(stream.items).tolist()]  # codes alone may be another log's
        data = stream.items.tobytes() + stream.sessions.tobytes() + repr(ids).encode()
        digest = blake2b(data, digest_size=8).hexdigest()
        return [f"{digest}/{session_id}" for session_id in stream.session_ids]


class LogEvents:
    """The events of the clicks that the model does not know. They can be read once, in order.

    If the model has learned a part of a session, a request to forget it comes before the session's first click, and the
    whole session is learned again. forget: ids of other sessions to forget, first of all. clicks: so far. forgotten:
    the model's sessions that are forgotten so far.
    """

    def __init__(self, log: LogFile, forget: Sequence[str] = ()) -> None:
        learned = log.model.log_progress
        self._log, self._names = log, log.names()
        self._known = frozenset[int]() if learned is None else frozenset([*learned.keys.tolist(), *_carried(learned)])
        # The events are not from the log that a service follows: the model's position stays the same.
        self._position = START if learned is None else learned.position
        self._started: set[int] = set()
        self.clicks = 0
        self.forgotten = [name for name in forget if key_of(name) in self._known]

    def of(self, begin: int, end: int) -> list[LogEntry]:
        """Return the events of the clicks begin .. end - 1."""
        log, events = self._log, list[Event]()
        clicks = begin + np.flatnonzero(log.fresh[begin:end])
        sessions, items, times = log.stream.sessions[clicks], log.stream.items[clicks], log.times[clicks]
        columns = clicks.tolist(), sessions.tolist(), items.tolist(), times.tolist()
        for click, session, item, time in zip(*columns, strict=True):
            name = self._names[session]
            if self._known and session not in self._started:
                self._started.add(session)
                if key_of(name) in self._known:
                    self.forgotten.append(name)
                    events.append(Forget(name, time))
            kind, context = log.stream.type_of(click), log.stream.context_of(click)
            item_id = log.stream.item_ids[item]
            events.append(Click(name, item_id, time, kind, context=context, trusted=True))
        self.clicks += len(clicks)
        return [LogEntry(event, self._position) for event in events]

    def chunks(self) -> Iterator[list[LogEntry]]:
        """Yield all events, a few thousand at a time."""
        begin = int(self._log.times.min()) if len(self._log.times) else 0
        yield [LogEntry(Forget(name, begin), self._position) for name in self.forgotten]
        for begin in range(0, len(self._log.stream), _CHUNK):
            yield self.of(begin, begin + _CHUNK)


def _carried(learned: LogProgress) -> set[int]:
    """Return the keys of the open sessions whose clicks a compacted bundle carries along."""
    events = (parse(line) for lines in learned.carried_lines() for line in lines)
    return {key_of(event.session) for event in events if isinstance(event, Click)}


@dataclass(frozen=True, slots=True)
class UpdateSummary:
    """What an update learned.

    clicks, sessions: in the log. known_clicks: of sessions that the model knew, or that its training left out.
    learned_clicks, learned_sessions, new_items: added to the model; a session that continues counts as new.
    dropped_sessions: those that the model knew in part, which the whole session replaced, or was to forget. refused:
    clicks that were not learned, by reason; those of whole sessions of bots included. bots: sessions of bots that were
    left out.
    """

    clicks: int
    sessions: int
    known_clicks: int
    learned_clicks: int
    learned_sessions: int
    new_items: int
    dropped_sessions: int
    refused: dict[str, int]
    bots: int = 0


def apply_log(
    log: LogFile, limits: LearningLimits, *, threads: int = 1, forget: Sequence[str] = ()
) -> tuple[Model, UpdateSummary]:
    """Return the model with the log learned: equal to the bit to what online learning makes of the same events.

    Its tables end with the log's sessions, ordered by last click. threads: for the tables. forget: ids of sessions that
    are removed.
    """
    before, refused, events = log.model, Counter[str](), LogEvents(log, forget)
    identity = "" if before.log_progress is None else before.log_progress.log
    model = compact_model(before, identity, events.chunks(), limits, all_over=True, threads=threads, refused=refused)
    if log.stream.times is None and (progress := model.log_progress) is not None:  # made-up times say nothing of an age
        clock = 0 if before.log_progress is None else before.log_progress.clock
        last = np.where(progress.last > clock, AGELESS, progress.last)
        model = replace(model, log_progress=replace(progress, last=last))
    dropped = np.empty(0, dtype=np.int32)
    if before.log_progress is not None:
        relearned = [
            session for name in events.forgotten for session, _ in before.log_progress.sessions_of(key_of(name))
        ]
        dropped = np.unique(np.array(relearned, dtype=np.int32))
    return model, UpdateSummary(
        clicks=len(log.stream),
        sessions=len(log.stream.session_ids),
        known_clicks=len(log.stream) - events.clicks - log.bot_clicks,
        learned_clicks=model.sessions.n_clicks - before.sessions.n_clicks + int(before.sessions.lengths[dropped].sum()),
        learned_sessions=len(model.sessions) - len(before.sessions) + len(dropped),
        new_items=model.n_items - before.n_items,
        dropped_sessions=len(dropped),
        refused=dict(refused + Counter(bot=log.bot_clicks)),
        bots=int(np.count_nonzero(log.bots)),
    )
