"""Sessions that the service keeps for its clients: in one worker's memory, or in Redis for all of them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from mtaw_fast.errors import UsageError, require
from mtaw_fast.service.problems import unavailable

_REDIS_PREFIX = "mtaw:session:"


class SessionStore(Protocol):
    """Clicks by session. Clicks are external ids, so that a session outlives the bundle it began with."""

    async def click(self, session: str, items: Sequence[int | str]) -> list[int | str]:
        """Append clicks; returns those that are kept, oldest first. Raises ServiceError where it is out of reach."""
        ...

    def sweep(self) -> int:
        """Forget what has expired; returns how many sessions this process holds."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class MemorySessions:
    """`SessionStore` in this process.

    ttl: seconds after its last click that a session is forgotten. most: sessions held; past it the one idle for longest
    goes. clicks: the last so many of a session are kept. clock: seconds.
    """

    def __init__(self, ttl: float, most: int, clicks: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl, self._most, self._clicks, self._clock = ttl, most, clicks, clock
        self._held: OrderedDict[str, tuple[float, list[int | str]]] = OrderedDict()  # by last click, oldest first

    async def click(self, session: str, items: Sequence[int | str]) -> list[int | str]:
        """See `SessionStore.click`."""
        self.sweep()
        _, clicks = self._held.pop(session, (0.0, []))
        clicks = [*clicks, *items][-self._clicks :]
        self._held[session] = self._clock() + self._ttl, clicks
        if len(self._held) > self._most:
            self._held.popitem(last=False)
        return clicks

    def sweep(self) -> int:
        """See `SessionStore.sweep`."""
        now = self._clock()
        while self._held and next(iter(self._held.values()))[0] <= now:
            self._held.popitem(last=False)
        return len(self._held)

    async def close(self) -> None:
        """See `SessionStore.close`."""


class RedisSessions:
    """`SessionStore` in Redis: a list a session, which Redis itself forgets `ttl` seconds after the last click."""

    def __init__(self, url: str, ttl: float, clicks: int, timeout: float) -> None:
        """timeout: seconds that Redis has to connect, and to answer.

        Raises MissingPackageError without redis-py, UsageError on a URL that cannot be one.
        """
        redis: Any = require("redis.asyncio", "serve")
        exceptions: Any = require("redis.exceptions", "serve")
        self._lost = exceptions.ConnectionError
        self._errors = (exceptions.RedisError, OSError, msgspec.MsgspecError)
        try:
            self._client = redis.Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)
            self._client.connection_pool.make_connection()  # connects to nothing, and finds options that do not exist
        except (ValueError, TypeError) as error:  # neither quotes the URL, which may hold a password
            raise UsageError(f"--sessions: no address of a Redis ({error}); give redis://host:6379/0") from None
        self._ttl, self._clicks = ttl, clicks

    async def click(self, session: str, items: Sequence[int | str]) -> list[int | str]:
        """See `SessionStore.click`. All steps are one transaction, so that concurrent clicks are all kept."""
        key = _REDIS_PREFIX + session
        sent = [msgspec.json.encode(item) for item in items]
        try:
            try:
                kept = await self._append(key, sent)
            except self._lost:
                # Redis was started anew, say: kept connections are dead without knowing it.
                await self._client.connection_pool.disconnect(inuse_connections=False)
                kept = await self._append(key, sent)
            return [msgspec.json.decode(item, type=int | str) for item in kept]
        except self._errors as error:
            raise unavailable(
                "sessions_unavailable", f"the session store does not answer ({type(error).__name__}); try again"
            ) from None

    async def _append(self, key: str, items: Sequence[bytes]) -> list[bytes]:
        async with self._client.pipeline(transaction=True) as steps:
            steps.rpush(key, *items)
            steps.ltrim(key, -self._clicks, -1)
            steps.pexpire(key, max(1, round(self._ttl * 1000)))
            steps.lrange(key, 0, -1)
            return (await steps.execute())[-1]

    def sweep(self) -> int:
        """See `SessionStore.sweep`; Redis forgets by itself, and this process holds none."""
        return 0

    async def close(self) -> None:
        """See `SessionStore.close`."""
        await self._client.aclose()


def open_sessions(kind: str | None, ttl: float, most: int, clicks: int, timeout: float) -> SessionStore | None:
    """The store that `--sessions` names, or None where it names none."""
    if kind is None:
        return None
    if kind == "memory":
        return MemorySessions(ttl, most, clicks)
    return RedisSessions(kind, ttl, clicks, timeout)
