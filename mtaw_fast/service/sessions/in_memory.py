"""Sessions that the service keeps for its clients: in one worker's memory, or in Redis for all of them."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

_SESSION_BYTES = 512  # of a kept session, its id and clicks left out: entries, list and numbers of its own
_TEXT_BYTES = 80  # of a text, its characters left out
_CLICK_BYTES = 8 + 16  # of a click beside its id: its place in the list, and what an allocation is rounded up by


class Held(NamedTuple):
    """What this process holds: sessions, and the bytes of memory that they take."""

    sessions: int
    bytes: int


class SessionStore(Protocol):
    """Clicks by session. Clicks are external ids, so that a session outlives the bundle it began with."""

    async def click(self, session: str, items: Sequence[int | str]) -> list[int | str]:
        """Append clicks; returns those that are kept, oldest first. Raises ServiceError where it is out of reach."""
        ...

    async def clicks(self, session: str) -> list[int | str]:
        """The clicks that are kept, oldest first; none of a session that is not. Raises as `click`."""
        ...

    async def forget(self, session: str) -> None:
        """Forget a session. Raises ServiceError where the store is out of reach."""
        ...

    def sweep(self) -> Held:
        """Forget what has expired; returns what is left."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(slots=True)
class _Session:
    """expires: on the store's clock. bytes: see `session_bytes`."""

    expires: float
    clicks: list[int | str]
    bytes: int


def session_bytes(session: str, clicks: Iterable[int | str]) -> int:
    """Bytes of memory that a kept session takes: at least what Python allocates for it, and always the same."""
    return _SESSION_BYTES + _id_bytes(session) + _clicks_bytes(clicks)


def _clicks_bytes(clicks: Iterable[int | str]) -> int:
    return sum(_CLICK_BYTES + _id_bytes(item) for item in clicks)


def _id_bytes(one: int | str) -> int:
    if isinstance(one, int):
        return sys.getsizeof(one)
    # Not getsizeof, which grows: once it was asked for, Python keeps the UTF-8 of a text with it, up to 4 bytes a
    # character beside the up to 4 of its own; for ASCII the two are one.
    return _TEXT_BYTES + len(one) * (1 if one.isascii() else 8)


class MemorySessions:
    """`SessionStore` in this process.

    ttl: seconds after its last click that a session is forgotten. most: sessions held; most_bytes: of memory that they
    take; past either the one idle for longest goes, and one that alone takes more is not kept. clicks: the last so many
    of a session are kept. clock: seconds.
    """

    def __init__(
        self, ttl: float, most: int, most_bytes: int, clicks: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ttl, self._most, self._most_bytes, self._clicks = ttl, most, most_bytes, clicks
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()  # by last click, oldest first
        self._bytes = 0

    async def click(self, session: str, items: Sequence[int | str]) -> list[int | str]:
        """See `SessionStore.click`."""
        self.sweep()
        before = self._sessions.pop(session, None)
        if before is None:
            before = _Session(0.0, [], session_bytes(session, ()))
        else:
            self._bytes -= before.bytes
        clicks = [*before.clicks, *items]
        dropped, clicks = clicks[: -self._clicks], clicks[-self._clicks :]
        taken = before.bytes + _clicks_bytes(items) - _clicks_bytes(dropped)
        if taken <= self._most_bytes:
            self._sessions[session] = _Session(self._clock() + self._ttl, clicks, taken)
            self._bytes += taken
        while len(self._sessions) > self._most or self._bytes > self._most_bytes:
            self._forget_oldest()
        return clicks

    async def clicks(self, session: str) -> list[int | str]:
        """See `SessionStore.clicks`."""
        self.sweep()
        kept = self._sessions.get(session)
        return [] if kept is None else kept.clicks

    async def forget(self, session: str) -> None:
        """See `SessionStore.forget`."""
        gone = self._sessions.pop(session, None)
        if gone is not None:
            self._bytes -= gone.bytes

    def sweep(self) -> Held:
        """See `SessionStore.sweep`."""
        now = self._clock()
        while self._sessions and next(iter(self._sessions.values())).expires <= now:
            self._forget_oldest()
        return Held(len(self._sessions), self._bytes)

    def _forget_oldest(self) -> None:
        _, oldest = self._sessions.popitem(last=False)
        self._bytes -= oldest.bytes

    async def close(self) -> None:
        """See `SessionStore.close`."""
