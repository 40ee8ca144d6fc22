"""A log file as a service would have seen it: its clicks as events, without those that a model knows already.

Axes: T clicks of the log, B sessions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from mtaw_fast.data.readers import ClickStream
from mtaw_fast.errors import UsageError
from mtaw_fast.model.model import Model
from mtaw_fast.online.compaction.compaction import compact_model
from mtaw_fast.online.log.event_log import START, LogEntry
from mtaw_fast.online.log.events import Click, Event, Forget
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.session_tracker import key_of

_BETWEEN_CLICKS = 1000  # ms between two clicks of a log without times
_NEVER = 2**52  # ms: the sessions of a log are cut already
_CHUNK = 4096


def log_limits(given: LearningLimits | None = None, **changes: Any) -> LearningLimits:
    """The limits for a log whose sessions are cut already: an id is one session, however long it pauses."""
    base = LearningLimits() if given is None else given
    values: Mapping[str, Any] = {name: getattr(base, name) for name in base.__dataclass_fields__}
    return LearningLimits(**{**values, "session_gap": _NEVER, **changes})


@dataclass(frozen=True, slots=True, eq=False)
class LogFile:
    """A log beside a model.

    Attributes
    ----------
    stream : ClickStream
        The clicks in order.
    times : int64[T]
        Theirs in milliseconds; made up, one a second, where the log has none.
    fresh : bool[T]
        Whether the model does not know a click's session yet: it ends after the last click that the model learned.
        Sessions that had ended by then it was trained on, or its training left them out.
    model : Model
        What they are fresh to.
    """

    stream: ClickStream
    times: np.ndarray
    fresh: np.ndarray
    model: Model

    @classmethod
    def of(cls, stream: ClickStream, model: Model) -> LogFile:
        """The clicks of a stream, as a model takes them.

        Raises
        ------
        UsageError
            Where the model has no session memory.
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
        return cls(stream, times, fresh, model)

    def names(self) -> list[str]:
        """The id of each session. Without times one that no other log's session has: such logs number from 0 on."""
        if self.stream.times is not None:
            return [str(one) for one in self.stream.session_ids]
        digest = blake2b(self.stream.items.tobytes() + self.stream.sessions.tobytes(), digest_size=8).hexdigest()
        return [f"{digest}/{one}" for one in self.stream.session_ids]


class LogEvents:
    """The events of a log's clicks, to be taken once and in order: those of clicks that the model does not know.

    The first click of a session that the model learned a part of takes that part out before: it comes again, with the
    rest.
    """

    def __init__(self, log: LogFile) -> None:
        learned = log.model.log_progress
        self._log, self._names = log, log.names()
        self._known = frozenset[int]() if learned is None else frozenset(learned.keys.tolist())
        # They come from no log that a service follows: the model's position stays where it is.
        self._position = START if learned is None else learned.position
        self._met: set[int] = set()
        self.clicks = 0
        self.taken_out: list[str] = []

    def of(self, begin: int, end: int) -> list[LogEntry]:
        """Those of clicks begin .. end - 1."""
        log, found = self._log, list[Event]()
        clicks = begin + np.flatnonzero(log.fresh[begin:end])
        sessions, items, times = log.stream.sessions[clicks], log.stream.items[clicks], log.times[clicks]
        for session, item, time in zip(sessions.tolist(), items.tolist(), times.tolist(), strict=True):
            name = self._names[session]
            if self._known and session not in self._met:
                self._met.add(session)
                if key_of(name) in self._known:
                    self.taken_out.append(name)
                    found.append(Forget(name, time))
            found.append(Click(name, log.stream.item_ids[item], time))
        self.clicks += len(clicks)
        return [LogEntry(event, self._position) for event in found]

    def chunks(self) -> Iterator[list[LogEntry]]:
        """All of them, a few thousand at a time."""
        for begin in range(0, len(self._log.stream), _CHUNK):
            yield self.of(begin, begin + _CHUNK)


@dataclass(frozen=True, slots=True)
class UpdateSummary:
    """What an update took in.

    Attributes
    ----------
    clicks, sessions : int
        Of the log.
    known_clicks : int
        Of sessions that the model knew.
    learned_clicks, learned_sessions, new_items : int
        What came to the model; a session that goes on counts as new.
    dropped_sessions : int
        Those that the model knew in part, which were taken out for it.
    refused : dict of str to int
        Clicks that were not learned, by reason.
    """

    clicks: int
    sessions: int
    known_clicks: int
    learned_clicks: int
    learned_sessions: int
    new_items: int
    dropped_sessions: int
    refused: dict[str, int]


def apply_log(log: LogFile, limits: LearningLimits, *, threads: int = 1) -> tuple[Model, UpdateSummary]:
    """The model with the log taken in: to the bit what the live path makes of the same events.

    Parameters
    ----------
    log : LogFile
        What to take in.
    limits : LearningLimits
        Who teaches how much.
    threads : int, default 1
        For the tables.

    Returns
    -------
    Model
        Its tables end with the log's sessions, by their last clicks.
    UpdateSummary
        What it took.
    """
    before, refused, events = log.model, Counter[str](), LogEvents(log)
    identity = "" if before.log_progress is None else before.log_progress.log
    model = compact_model(before, identity, events.chunks(), limits, all_over=True, threads=threads, refused=refused)
    gone = np.empty(0, dtype=np.int32)
    if before.log_progress is not None:
        again = [before.log_progress.sessions_of(key_of(name)) for name in events.taken_out]
        gone = np.unique(np.concatenate([gone, *again]))
    return model, UpdateSummary(
        clicks=len(log.stream),
        sessions=len(log.stream.session_ids),
        known_clicks=len(log.stream) - events.clicks,
        learned_clicks=model.sessions.n_clicks - before.sessions.n_clicks + int(before.sessions.lengths[gone].sum()),
        learned_sessions=len(model.sessions) - len(before.sessions) + len(gone),
        new_items=model.n_items - before.n_items,
        dropped_sessions=len(gone),
        refused=dict(refused),
    )
