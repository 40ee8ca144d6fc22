"""Sessions of the log's clicks: numbers them, drops duplicates, and applies the learning limits."""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from mtaw_fast.kernels.native.keys import RecentKeys, SessionHandles
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.guards import FloodGuard

REMEMBERED_IDS = 1_000_000  # event ids kept to recognize duplicates
_MAX_STEP = 3_600_000  # ms that one event can advance the clock: one from the year 2099 must not make others late
_LATE_IN_A_ROW = 64  # late events in excess of timely ones after which a clock itself must be wrong


def key_of(text: str) -> int:
    """Return a 64-bit hash of a session id, stored where the id itself is not needed."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def event_key(session: str, identity: str) -> int:
    """Return a 64-bit hash of an event id within its session: a client that guesses ids silences no other session."""
    return key_of(f"{len(session)}:{session}{identity}")


@dataclass(slots=True)
class _OpenSession:
    handle: int
    last: int
    learned: int = 0  # time of the last learned click
    clicks: int = 0
    recent: array[int] = field(default_factory=lambda: array("q"))  # `burst_clicks` at most: when its last clicks came
    bot: bool = False


@dataclass(slots=True)
class UpdateBatch:
    """Clicks to learn, in order, and sessions to forget after them.

    handles: the session of each click. forgotten: the handles of sessions whose clicks so far must be removed again,
    those in this batch included.
    """

    handles: list[int] = field(default_factory=list)
    clicks: list[Click] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)

    def add(self, handle: int, click: Click) -> None:
        """Append a click to learn."""
        self.handles.append(handle)
        self.clicks.append(click)


class SessionTracker:
    """Numbers sessions as they appear and applies the limits. Not thread-safe: one reader owns it.

    Two trackers that are given the same events decide the same about every click.

    clock: Unix milliseconds of the newest click, by the clicks' own times. arrival: of the newest arrival; 0 if no
    click had one; the guards against bots and floods go by it. duplicates: receives the clicks whose ids were seen
    before, if the reader puts a list here.
    """

    def __init__(
        self, limits: LearningLimits, clock: int = 0, seen: Iterable[int] = (), flood: FloodGuard | None = None
    ) -> None:
        """Start without open sessions. seen: as `seen` returned them."""
        self._limits = limits
        self._open: OrderedDict[str, _OpenSession] = OrderedDict()
        self._handles = SessionHandles()
        self._seen = RecentKeys(REMEMBERED_IDS)
        self.remember(seen)
        self._flood = FloodGuard(limits) if flood is None else flood
        self._late = self._behind = 0
        self.clock = self._newest = clock
        self.arrival = 0
        self.duplicates: list[Click] | None = None
        self.refused: Counter[str] = Counter()

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
                self.refused[reason] += 1
                if reason == "duplicate" and self.duplicates is not None:
                    self.duplicates.append(click)
            if batch.forgotten:
                yield batch
                batch = UpdateBatch()
        yield batch

    def resume(self, clicks: Iterable[Click]) -> UpdateBatch:
        """Open the sessions that a bundle carries as open; return their clicks, which passed the limits before."""
        batch = UpdateBatch()
        for click in clicks:
            self.clock = max(self.clock, click.time) if not self.clock else self.clock
            session = self._open.get(click.session) or self._open_session(click.session, click.time)
            session.last = session.learned = max(session.last, click.time)
            session.clicks += 1
            session.recent.append(click.time)
            del session.recent[: -self._limits.burst_clicks]
            self._open.move_to_end(click.session)
            batch.add(session.handle, click)
        return batch

    def resume_ongoing(
        self,
        ongoing: Mapping[str, tuple[int, bool]],
        arrival: int = 0,
        recent: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        """Continue the open sessions of a bundle, after `resume`. The parameters are as the properties."""
        for name, (last, bot) in ongoing.items():
            session = self._open.get(name) or self._open_session(name, last)
            session.last, session.bot = max(session.last, last), bot
        self.arrival = arrival
        if arrival:
            for name, session in self._open.items():
                session.recent = array("q", (recent or {}).get(name, ()))

    def open_sessions(self) -> dict[str, int]:
        """Return the handles of open sessions, by id."""
        earliest = self.clock - self._limits.session_gap
        return {name: session.handle for name, session in self._open.items() if session.last >= earliest}

    @property
    def ongoing(self) -> dict[str, tuple[int, bool]]:
        """By id of the open sessions whose learned clicks do not give it: Unix milliseconds of the last click, learned
        or not, and whether the session is a bot."""
        earliest = self.clock - self._limits.session_gap
        return {
            name: (session.last, session.bot)
            for name, session in self._open.items()
            if session.bot or (session.clicks and session.last >= max(earliest, session.learned + 1))
        }

    @property
    def recent(self) -> dict[str, list[int]]:
        """The arrivals of clicks that the rule for bots still needs, by id of open sessions; if no click had one, the
        rule uses the clicks' own times."""
        earliest = self.arrival - self._limits.burst_ms
        recent = {name: [time for time in self._open[name].recent if time > earliest] for name in self.open_sessions()}
        return {name: times for name, times in recent.items() if times} if self.arrival else {}

    def _admit(self, click: Click, batch: UpdateBatch) -> str | None:
        """Add a click to a batch, or return why it is refused."""
        limits = self._limits
        if click.id is not None and not self._seen.add(event_key(click.session, click.id)):
            return "duplicate"
        known_arrival = self.arrival
        if click.arrived is not None:
            self._arrive(click.arrived)
        if click.time < self.clock - limits.late:
            self._set_back(click)
            if click.time < self.clock - limits.late:
                return "late"
        self._late = max(self._late - 1, 0)
        self._advance(click.time, known_arrival)
        session = self._session(click)
        if session.bot:
            return "bot"
        if self._bursts(session.recent, click.time if click.arrived is None else click.arrived):
            session.bot = True
            batch.forgotten.append(session.handle)
            return "bot"
        if session.clicks >= limits.session_clicks:
            return "session_full"
        if session.clicks < limits.fresh_clicks and not self._flood.admits(
            click.item, self.clock if click.arrived is None else self.arrival
        ):
            return "flood"
        session.clicks += 1
        if session.clicks > limits.fresh_clicks:
            self._flood.prove(session.clicks if session.clicks == limits.fresh_clicks + 1 else 1)
        session.learned = max(session.learned, click.time)
        batch.add(session.handle, click)
        return None

    def _arrive(self, time: int) -> None:
        """Move `arrival`: forward, or back if some host's clock was ahead and is right again."""
        if time >= self.arrival - self._limits.session_gap:
            self.arrival = max(self.arrival, time)
            self._behind = max(self._behind - 1, 0)
            return
        self._behind += 1
        if self._behind >= _LATE_IN_A_ROW:
            self.arrival, self._behind = time, 0

    def _set_back(self, click: Click) -> None:
        """Count a late click; after many, the clock must have been ahead: set it back to the click's arrival, which no
        client chooses. Without arrivals by `session_gap` at most, which has no end in a log file."""
        self._late += 1
        if self._late < _LATE_IN_A_ROW:
            return
        self._late = 0
        if click.arrived is None:
            self.clock = min(self.clock, max(click.time, self._newest - self._limits.session_gap))
        elif click.arrived < self.clock:
            self.clock = self._newest = click.arrived

    def _advance(self, time: int, known_arrival: int) -> None:
        """Move the clock forward to a click's time, by more than `_MAX_STEP` only if another click has arrived then."""
        latest = max(self.clock + _MAX_STEP, known_arrival)
        self.clock = max(self.clock, min(time, latest) if self.clock else time)
        self._newest = max(self._newest, self.clock)

    def _session(self, click: Click) -> _OpenSession:
        session = self._open.get(click.session)
        if session is None or abs(click.time - session.last) > self._limits.session_gap:
            session = self._open_session(click.session, click.time)
        session.last = max(session.last, click.time)
        self._open.move_to_end(click.session)
        while self._open:
            oldest = next(iter(self._open.values()))
            if oldest.last >= self.clock - 2 * self._limits.session_gap:
                break
            self._open.popitem(last=False)
        return session

    def _open_session(self, name: str, time: int) -> _OpenSession:
        session = self._open[name] = _OpenSession(self._handles.add(key_of(name)), time)
        return session

    def _bursts(self, recent: array[int], time: int) -> bool:
        recent.append(time)
        return len(recent) > self._limits.burst_clicks and abs(time - recent.pop(0)) < self._limits.burst_ms

    def forget(self, session: str) -> list[int]:
        """Remove a session id and return its handles; a later click with the id starts another session."""
        self._open.pop(session, None)
        return self._handles.take(key_of(session))

    def seen(self, count: int) -> np.ndarray:
        """Return uint64[..]: `event_key` of the last `count` events that count as seen, oldest first."""
        return self._seen.latest(count)

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
