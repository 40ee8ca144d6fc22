"""Sessions of the log's clicks: numbers them, drops duplicates, and applies the learning limits."""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from mtaw_fast.kernels.native.keys import RecentKeys, SessionHandles
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.log_clock import LogClock

REMEMBERED_IDS = 1_000_000  # event ids kept to recognize duplicates
_LAST_REFUSED = 256

# Time of the last click, learned or not, by which visits are cut; the log's time then; clicks that the limits let pass;
# whether it is a bot, from which nothing is learned; when its latest clicks came.
OpenSession = tuple[int, int, int, bool, Sequence[int]]


def key_of(text: str) -> int:
    """Return a 64-bit hash of a session id, stored where the id itself is not needed."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def event_key(session: str, identity: str) -> int:
    """Return a 64-bit hash of an event id within its session: a client that guesses ids silences no other session."""
    return key_of(f"{len(session)}:{session}{identity}")


class Refusal(NamedTuple):
    """A click that was not learned. at: Unix milliseconds of its arrival, or without that of the click."""

    reason: str
    item: int | str
    at: int


@dataclass(slots=True)
class _OpenSession:
    """last: time of the last click, learned or not: if it was open, of its arrival. at: the log's time then. clicks:
    that the limits let pass. recent: when its last clicks came, `burst_clicks` at most."""

    handle: int
    last: int
    at: int
    clicks: int = 0
    bot: bool = False
    recent: array[int] = field(default_factory=lambda: array("q"))


@dataclass(slots=True)
class UpdateBatch:
    """Clicks to learn, in order, and sessions to forget after them.

    handles: the session of each click. clocks: the time of each by the log. forgotten: the handles of sessions whose
    clicks so far must be removed again, those in this batch included.
    """

    handles: list[int] = field(default_factory=list)
    clicks: list[Click] = field(default_factory=list)
    clocks: list[int] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)

    def add(self, handle: int, click: Click, clock: int = 0) -> None:
        """Append a click to learn."""
        self.handles.append(handle)
        self.clicks.append(click)
        self.clocks.append(clock)


class SessionTracker:
    """Numbers sessions as they appear and applies the limits. Not thread-safe: one reader owns it.

    Two trackers that are given the same events decide the same about every click, also if one of them starts from
    what `seen`, `open_sessions` and `clock.state` returned on the way.

    since: clicks up to this time were in the training; they only count as seen. clock: the log's. duplicates: receives
    the clicks whose ids were seen before, if the reader puts a list here.
    """

    def __init__(
        self,
        limits: LearningLimits,
        clock: LogClock | None = None,
        seen: Iterable[int] = (),
        since: int | None = None,
    ) -> None:
        """Start without open sessions. seen: as `seen` returned them."""
        self._limits, self._since = limits, since
        self._open: OrderedDict[str, _OpenSession] = OrderedDict()  # by `at`
        self._handles = SessionHandles()
        self._seen = RecentKeys(REMEMBERED_IDS)
        self.remember(seen)
        self.clock = clock or LogClock(limits)
        self.duplicates: list[Click] | None = None
        self.refused: Counter[str] = Counter()
        self.last_refused: deque[Refusal] = deque(maxlen=_LAST_REFUSED)

    def remember(self, keys: Iterable[int]) -> None:
        """Treat events as seen. keys: as `seen` returns them, oldest first."""
        for key in keys:
            self._seen.add(int(key))

    def batches(self, clicks: Iterable[Click]) -> Iterator[UpdateBatch]:
        """Yield which of the clicks are learned; a batch ends where a session is to be forgotten.

        So every reader forgets it after the same click, whatever the sizes of its reads.
        """
        batch = UpdateBatch()
        for click in clicks:
            reason = self._admit(click, batch)
            if reason is not None:
                self.refuse(reason, click)
                if reason == "duplicate" and self.duplicates is not None:
                    self.duplicates.append(click)
            if batch.forgotten:
                yield batch
                batch = UpdateBatch()
        yield batch

    def refuse(self, reason: str, click: Click) -> None:
        """Count a click that is not learned."""
        self.refused[reason] += 1
        self.last_refused.append(Refusal(reason, click.item, click.arrived or click.time))

    def resume(self, sessions: Mapping[str, OpenSession]) -> None:
        """Open the sessions that a bundle carries as open. sessions: as `open_sessions` returned them."""
        for name, (last, at, clicks, bot, recent) in sessions.items():
            handle = self._handles.add(key_of(name))
            self._open[name] = _OpenSession(handle, last, at, clicks, bot, array("q", recent))

    def resumed(self, clicks: Iterable[Click]) -> UpdateBatch:
        """Return learned clicks of the open sessions, which passed the limits before."""
        batch = UpdateBatch()
        for click in clicks:
            batch.add(self._open[click.session].handle, click)
        return batch

    @property
    def open_handles(self) -> dict[int, str]:
        """The ids of the open sessions by their handles."""
        return {session.handle: name for name, session in self._open.items() if not self._is_over(session)}

    def open_sessions(self) -> dict[str, OpenSession]:
        """Return the open sessions by id, those that clicked last at the end."""
        return {
            name: (session.last, session.at, session.clicks, session.bot, session.recent.tolist())
            for name, session in self._open.items()
            if not self._is_over(session)
        }

    def _admit(self, click: Click, batch: UpdateBatch) -> str | None:
        """Add a click to a batch, or return why it is refused."""
        if click.refused is not None:
            return click.refused
        limits, clock = self._limits, self.clock
        is_repeated = click.id is not None and not self._seen.add(event_key(click.session, click.id))
        if self._since is not None and clock.believed_time(click) <= self._since:
            return "trained"
        if is_repeated:
            return "duplicate"
        before = clock.now
        is_late = not clock.take(click)
        if clock.now != before:
            self._close_sessions(before)
        if is_late:
            return "late"
        time = clock.learned_time(click)
        moment = click.time if click.trusted or click.arrived is None else click.arrived
        session = self._session(click.session, clock.settled(moment), time)
        if session.bot:
            return "bot"
        if self._bursts(session.recent, moment):
            session.bot = True
            batch.forgotten.append(session.handle)
            return "bot"
        if session.clicks >= limits.session_clicks and not click.trusted:
            return "session_full"
        session.clicks += 1
        learned = click if time == click.time else click._replace(time=time)
        batch.add(session.handle, learned, clock.now if click.arrived is None else clock.arrival)
        return None

    def _close_sessions(self, before: int) -> None:
        """Drop sessions that are over, after the clock has moved."""
        now, gap = self.clock.now, self._limits.session_gap
        if now < before:  # it was set back: what is over stays so
            self._open = OrderedDict(item for item in self._open.items() if item[1].at >= before - gap)
            for session in self._open.values():
                session.at = min(session.at, now)
        earliest = now - gap
        while self._open and next(iter(self._open.values())).at < earliest:
            self._open.popitem(last=False)

    def _is_over(self, session: _OpenSession) -> bool:
        """Return whether a session had no click for `session_gap`. It stays over, whatever times come later, so that a
        compaction can merge it."""
        return session.at < self.clock.now - self._limits.session_gap

    def _session(self, name: str, moment: int, time: int) -> _OpenSession:
        """Return the session of a click. moment: by which visits are cut. time: as of which the click is learned."""
        session, gap, now = self._open.get(name), self._limits.session_gap, self.clock.now
        if session is None or session.at < now - gap or abs(moment - session.last) > gap:
            session = _OpenSession(self._handles.add(key_of(name)), moment, 0)
            self._open[name] = session
        session.last = max(session.last, moment)
        session.at = max(now, time)  # the clock may lag behind the first click after a pause
        self._open.move_to_end(name)
        return session

    def _bursts(self, recent: array[int], time: int) -> bool:
        recent.append(time)
        return len(recent) > self._limits.burst_clicks and abs(time - recent.pop(0)) < self._limits.burst_ms

    def forget(self, session: str) -> list[int]:
        """Remove a session id and return its handles; a later click with the id starts another session."""
        self._open.pop(session, None)
        return self._handles.take(key_of(session))

    def seen(self) -> np.ndarray:
        """Return uint64[..]: `event_key` of the last events that count as seen, oldest first."""
        return self._seen.latest(REMEMBERED_IDS)

    @property
    def keys(self) -> np.ndarray:
        """uint64[n_sessions]: `key_of` of the id of each session, by handle; those that were forgotten included."""
        return self._handles.keys

    @property
    def n_sessions(self) -> int:
        """The number of sessions so far."""
        return len(self._handles)

    @property
    def n_bytes(self) -> int:
        """Bytes of the tables that grow with sessions and events."""
        return self._handles.n_bytes + self._seen.n_bytes
