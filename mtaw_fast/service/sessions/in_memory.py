"""The interface of session stores, and the store in the memory of one worker."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

_SESSION_BYTES = 512  # of a kept session without its id and clicks: entries, list and numbers
_TEXT_BYTES = 80  # of a text without its characters
_PAIR_BYTES = 64 + 16  # of a tuple of two without these, and the garbage collector's part of it
_CLICK_BYTES = 8 + 16  # of a click without its id: the list entry, and the rounding of allocations


def max_session_bytes(clicks: int) -> int:
    """Return the bytes that a kept session of at most `clicks` clicks may take: an id is 512 characters at most."""
    return max(64 << 10, 256 * clicks)


class Usage(NamedTuple):
    """The sessions in this process, and the bytes of memory that they take."""

    sessions: int
    bytes: int


Types: TypeAlias = Sequence[str | None]
Click: TypeAlias = int | str | tuple[int | str, str]  # an item, or with its type


class TypedClicks(NamedTuple):
    """Clicks of a session, and the type of each; None if no type is known."""

    items: list[int | str]
    types: list[str | None] | None

    @classmethod
    def of(cls, clicks: Sequence[Click]) -> TypedClicks:
        """Return kept clicks in parts."""
        items = [click[0] if isinstance(click, tuple) else click for click in clicks]
        types = [click[1] if isinstance(click, tuple) else None for click in clicks]
        return cls(items, types if any(kind is not None for kind in types) else None)


def with_types(items: Sequence[int | str], types: Types | None) -> list[Click]:
    """Return clicks as a store keeps them."""
    if types is None:
        return list(items)
    return [item if kind is None else (item, kind) for item, kind in zip(items, types, strict=True)]


class SessionStore(Protocol):
    """Clicks by session. Clicks are external item ids, so that a session outlives the bundle it began with."""

    async def click(self, session: str, items: Sequence[int | str], types: Types | None = None) -> TypedClicks:
        """Append clicks; return those that are kept, oldest first. Raises ServiceError if the store does not work.

        types: one for each, None where unknown.
        """
        ...

    async def clicks(self, session: str) -> list[int | str]:
        """Return the clicks that are kept, oldest first; none for an unknown session. Raises as `click`."""
        ...

    async def context(self, session: str, new_context: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Return the context of a session that has clicks: the one that came last. Raises as `click`.

        new_context: what came with a click; it replaces the one before. It is kept as long as the session.
        """
        ...

    async def forget(self, session: str) -> None:
        """Delete a session. Raises as `click`."""
        ...

    def sweep(self) -> Usage:
        """Delete expired sessions; return what is left."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


@dataclass(slots=True)
class _Session:
    """A stored session. expires: a time of the store's clock. bytes: see `session_bytes`."""

    expires: float
    clicks: list[Click]
    bytes: int
    context: Mapping[str, Any] | None = None


def session_bytes(session: str, clicks: Iterable[Click]) -> int:
    """Return the bytes that a kept session counts for: at least what Python allocates for it, and always the same."""
    return _SESSION_BYTES + _id_bytes(session) + _clicks_bytes(clicks)


def _clicks_bytes(clicks: Iterable[Click]) -> int:
    return sum(
        _CLICK_BYTES + (_typed_bytes(*click) if isinstance(click, tuple) else _id_bytes(click)) for click in clicks
    )


def _typed_bytes(item: int | str, kind: str) -> int:
    return _PAIR_BYTES + _id_bytes(item) + _id_bytes(kind)


def _context_bytes(context: Mapping[str, Any] | None) -> int:
    return sum(_CLICK_BYTES + _id_bytes(name) + _id_bytes(value or "") for name, value in (context or {}).items())


def _id_bytes(value: int | str) -> int:
    if isinstance(value, int):
        return sys.getsizeof(value)
    # Not getsizeof, because it grows: Python caches the UTF-8 of a text with it once it is needed, up to 4 bytes a
    # character in addition to up to 4 of the text itself. For ASCII the two are the same bytes.
    return _TEXT_BYTES + len(value) * (1 if value.isascii() else 8)


class MemorySessions:
    """`SessionStore` in this process.

    Parameters
    ----------
    ttl : float
        Seconds after its last click at which a session expires.
    max_sessions, max_bytes : int
        Limits of the sessions and of their memory. Beyond either, the session idle for longest is deleted. A session
        that alone takes more than `max_bytes` is not kept.
    clicks : int
        Clicks of a session that are kept, the latest ones. Fewer are kept if they take more than `max_session_bytes`.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(
        self, ttl: float, max_sessions: int, max_bytes: int, clicks: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ttl, self._max_sessions, self._max_bytes, self._clicks = ttl, max_sessions, max_bytes, clicks
        self._session_bytes = max_session_bytes(clicks)
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()  # by last click, oldest first
        self._bytes = 0

    async def click(self, session: str, items: Sequence[int | str], types: Types | None = None) -> TypedClicks:
        """See `SessionStore.click`."""
        self.sweep()
        added = with_types(items, types)
        entry = self._sessions.pop(session, None)
        if entry is None:
            entry = _Session(0.0, [], session_bytes(session, ()))
        else:
            self._bytes -= entry.bytes
        clicks = [*entry.clicks, *added]
        dropped, clicks = clicks[: -self._clicks], clicks[-self._clicks :]
        n_bytes = entry.bytes + _clicks_bytes(added) - _clicks_bytes(dropped)
        first = 0
        while n_bytes > self._session_bytes and first < len(clicks) - 1:
            n_bytes -= _clicks_bytes(clicks[first : first + 1])
            first += 1
        clicks = clicks[first:] if first else clicks
        if n_bytes <= self._max_bytes:
            self._sessions[session] = _Session(self._clock() + self._ttl, clicks, n_bytes, entry.context)
            self._bytes += n_bytes
        while len(self._sessions) > self._max_sessions or self._bytes > self._max_bytes:
            self._forget_oldest()
        return TypedClicks.of(clicks)

    async def clicks(self, session: str) -> list[int | str]:
        """See `SessionStore.clicks`."""
        self.sweep()
        entry = self._sessions.get(session)
        return [] if entry is None else TypedClicks.of(entry.clicks).items

    async def context(self, session: str, new_context: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """See `SessionStore.context`."""
        self.sweep()
        entry = self._sessions.get(session)
        if entry is None or new_context is None:
            return new_context if entry is None else entry.context
        growth = _context_bytes(new_context) - _context_bytes(entry.context)
        entry.context, entry.bytes = new_context, entry.bytes + growth
        self._bytes += growth
        return new_context

    async def forget(self, session: str) -> None:
        """See `SessionStore.forget`."""
        entry = self._sessions.pop(session, None)
        if entry is not None:
            self._bytes -= entry.bytes

    def sweep(self) -> Usage:
        """See `SessionStore.sweep`."""
        now = self._clock()
        while self._sessions and next(iter(self._sessions.values())).expires <= now:
            self._forget_oldest()
        return Usage(len(self._sessions), self._bytes)

    def _forget_oldest(self) -> None:
        _, oldest = self._sessions.popitem(last=False)
        self._bytes -= oldest.bytes

    async def close(self) -> None:
        """See `SessionStore.close`."""
