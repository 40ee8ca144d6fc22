"""From the log's events to clicks of numbered sessions: who goes on, what comes twice, and what is not learned."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import LearningLimits

REASONS = ("duplicate", "late", "session_full", "bot", "flood")
REMEMBERED_IDS = 1_000_000  # event ids that a second coming is known by
_STEP = 3_600_000  # ms by which one event can move the clock: one from the year 2099 must not make all others late
_LATE_IN_A_ROW = 64  # late events, less the timely ones among them, that say that it is the clock which is wrong


def key_of(text: str) -> int:
    """64 bits that stand for the id of a session or an event wherever the id itself is not needed."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class FloodGuard:
    """The rule of `item_share`: counts the fresh clicks of a window, item by item."""

    def __init__(self, limits: LearningLimits) -> None:
        self._limits = limits
        self._window = -1
        self._all = 0
        self._items: Counter[int | str] = Counter()

    def admits(self, item: int | str, clock: int) -> bool:
        """Whether a fresh click on `item` is learned; it is counted either way.

        clock: the tracker's, not the click's own time: one click from the year 2099 must not hold a window open till then.
        """
        limits = self._limits
        window = clock // limits.item_window
        if window != self._window:
            self._window, self._all = window, 0
            self._items.clear()
        self._all += 1
        self._items[item] += 1
        return self._items[item] <= max(limits.item_floor, limits.item_share * self._all)


@dataclass(slots=True)
class _Open:
    handle: int
    last: int
    learned: int = 0  # the last click that was
    clicks: int = 0
    recent: deque[int] = field(default_factory=deque)
    bot: bool = False


@dataclass(slots=True)
class UpdateBatch:
    """Clicks to learn, in order, and sessions to take out before them.

    Attributes
    ----------
    handles, items, times : list
        A number each a click: the session's handle, the external id, Unix milliseconds.
    forgotten : list of int
        Handles whose clicks so far, those in this update_batch included, are to be taken out again.
    """

    handles: list[int] = field(default_factory=list)
    items: list[int | str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)


class SessionTracker:
    """Numbers sessions as they appear and applies the limits. Not thread-safe: one reader owns it.

    Two books that were given the same events decide alike, to the last click.
    """

    def __init__(self, limits: LearningLimits, clock: int = 0, seen: Sequence[int] = ()) -> None:
        """clock: Unix milliseconds of the newest event so far. seen: `key_of` of event ids that were taken before."""
        self._limits = limits
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._keys: dict[int, list[int]] = {}
        self._seen: OrderedDict[int, None] = OrderedDict.fromkeys(seen)
        self._flood = FloodGuard(limits)
        self._next = 0
        self._late = 0
        self.clock = clock
        self.refused: Counter[str] = Counter()

    def take(self, clicks: Iterable[Click]) -> UpdateBatch:
        """What of `clicks` is learned."""
        update_batch = UpdateBatch()
        for click in clicks:
            reason = self._take(click, update_batch)
            if reason is not None:
                self.refused[reason] += 1
        return update_batch

    def resume(self, clicks: Iterable[Click], ongoing: Mapping[str, tuple[int, bool]]) -> UpdateBatch:
        """Clicks that were taken before, of sessions that were not over: all of them are learned, whatever the limits.

        ongoing: as the property.
        """
        update_batch = UpdateBatch()
        for click in clicks:
            self.clock = max(self.clock, click.time) if not self.clock else self.clock
            session = self._open.get(click.session) or self._begun(click.session, click.time)
            session.last = session.learned = max(session.last, click.time)
            session.clicks += 1
            session.recent.append(click.time)
            while len(session.recent) > self._limits.burst_clicks:
                session.recent.popleft()
            self._open.move_to_end(click.session)
            _add(update_batch, session.handle, click)
        for name, (last, bot) in ongoing.items():
            session = self._open.get(name) or self._begun(name, last)
            session.last, session.bot = max(session.last, last), bot
        return update_batch

    def open_sessions(self) -> dict[str, int]:
        """The handles of sessions that may go on, by their ids."""
        least = self.clock - self._limits.session_gap
        return {name: one.handle for name, one in self._open.items() if one.last >= least}

    @property
    def ongoing(self) -> dict[str, tuple[int, bool]]:
        """Of sessions that may go on, by their ids, what clicks that were learned do not tell.

        Unix milliseconds of the last click, learned or not, and whether it is a bot.
        """
        least = self.clock - self._limits.session_gap
        return {
            name: (one.last, one.bot)
            for name, one in self._open.items()
            if one.bot or (one.clicks and one.last >= max(least, one.learned + 1))
        }

    def _take(self, click: Click, update_batch: UpdateBatch) -> str | None:
        limits = self._limits
        if click.id is not None:
            identity = key_of(click.id)
            if identity in self._seen:
                return "duplicate"
            self._seen[identity] = None
            if len(self._seen) > REMEMBERED_IDS:
                self._seen.popitem(last=False)
        if click.time < self.clock - limits.late:
            self._late += 1
            if self._late < _LATE_IN_A_ROW:
                return "late"
            self.clock = click.time  # some machine's clock was ahead, and is right again
        self._late = max(self._late - 1, 0)
        self.clock = max(self.clock, min(click.time, self.clock + _STEP) if self.clock else click.time)
        session = self._session(click)
        if session.bot:
            return "bot"
        if self._bursts(session, click.time):
            session.bot = True
            update_batch.forgotten.append(session.handle)
            return "bot"
        if session.clicks >= limits.session_clicks:
            return "session_full"
        if session.clicks < limits.fresh_clicks and not self._flood.admits(click.item, self.clock):
            return "flood"
        session.clicks += 1
        session.learned = max(session.learned, click.time)
        _add(update_batch, session.handle, click)
        return None

    def _session(self, click: Click) -> _Open:
        session = self._open.get(click.session)
        if session is None or abs(click.time - session.last) > self._limits.session_gap:
            session = self._begun(click.session, click.time)
        session.last = max(session.last, click.time)
        self._open.move_to_end(click.session)
        while self._open:
            oldest = next(iter(self._open.values()))
            if oldest.last >= self.clock - 2 * self._limits.session_gap:
                break
            self._open.popitem(last=False)
        return session

    def _begun(self, name: str, time: int) -> _Open:
        session = self._open[name] = _Open(self._next, time)
        self._next += 1
        self._keys.setdefault(key_of(name), []).append(session.handle)
        return session

    def _bursts(self, session: _Open, time: int) -> bool:
        recent = session.recent
        recent.append(time)
        if len(recent) <= self._limits.burst_clicks:
            return False
        return abs(time - recent.popleft()) < self._limits.burst_ms

    def forget(self, session: str) -> list[int]:
        """The handles of a session that asked to be forgotten; a later click of its id begins another one."""
        self._open.pop(session, None)
        return self._keys.pop(key_of(session), [])

    @property
    def seen(self) -> list[int]:
        """`key_of` of the event ids that count as taken, oldest first."""
        return list(self._seen)

    @property
    def keys(self) -> Mapping[int, list[int]]:
        """The handles of each session by its `key_of`."""
        return self._keys

    @property
    def n_sessions(self) -> int:
        """How many sessions were numbered."""
        return self._next


def _add(update_batch: UpdateBatch, handle: int, click: Click) -> None:
    update_batch.handles.append(handle)
    update_batch.items.append(click.item)
    update_batch.times.append(click.time)
