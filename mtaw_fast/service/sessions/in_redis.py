"""Sessions kept in Redis, for all workers and past their end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from mtaw_fast.errors import UsageError, require
from mtaw_fast.service.http.problems import ServiceError, unavailable
from mtaw_fast.service.observability.service_log import log_event
from mtaw_fast.service.sessions.in_memory import Held
from mtaw_fast.service.sessions.redis_client import redis_client

_PREFIX = "mtaw:session:"
_TOLD = 1.0  # seconds between two lines of the log about a store that fails
_CLICKS = msgspec.json.Decoder(int | str)


class RedisSessions:
    """`SessionStore` in Redis: a list a session, which Redis itself forgets `ttl` seconds after the last click."""

    def __init__(self, url: str, ttl: float, clicks: int, timeout: float, password: str | None = None) -> None:
        """timeout: seconds that Redis has to connect, and to answer.

        Raises MissingPackageError without redis-py, UsageError on a URL that cannot be one.
        """
        exceptions: Any = require("redis.exceptions", "serve")
        self._lost = exceptions.ConnectionError
        try:
            self._client = redis_client(url, timeout, password)
        except (ValueError, TypeError) as error:  # neither quotes the URL, which may hold a password
            raise UsageError(f"--sessions: no address of a Redis ({error}); give redis://host:6379/0") from None
        self._ttl, self._clicks = ttl, clicks
        self._told_at, self._untold = -_TOLD, 0

    async def click(self, session: str, items: Sequence[int | str]) -> list[int | str]:
        """See `SessionStore.click`. All steps are one transaction, so that concurrent clicks are all kept."""
        key = _PREFIX + session
        sent = [msgspec.json.encode(item) for item in items]
        try:
            try:
                kept = await self._append(key, sent)
            except self._lost:
                # Redis was started again, say: kept connections are dead without knowing it.
                await self._client.connection_pool.disconnect(inuse_connections=False)
                kept = await self._append(key, sent)
            return [_CLICKS.decode(item) for item in kept]
        except Exception as error:
            raise self._unavailable(error) from None

    async def clicks(self, session: str) -> list[int | str]:
        """See `SessionStore.clicks`."""
        key = _PREFIX + session
        try:
            try:
                kept = await self._client.lrange(key, -self._clicks, -1)
            except self._lost:  # as in `click`
                await self._client.connection_pool.disconnect(inuse_connections=False)
                kept = await self._client.lrange(key, -self._clicks, -1)
            return [_CLICKS.decode(item) for item in self._checked(kept)]
        except Exception as error:
            raise self._unavailable(error) from None

    async def forget(self, session: str) -> None:
        """See `SessionStore.forget`."""
        try:
            await self._client.delete(_PREFIX + session)
        except Exception as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: Exception) -> ServiceError:
        """Whatever a store may send: redis-py meets it with errors of its own, and of Python's."""
        self._tell(error)
        return unavailable(
            "sessions_unavailable",
            f"the session store does not answer as it should ({type(error).__name__}); try again",
        )

    async def _append(self, key: str, items: Sequence[bytes]) -> list[bytes]:
        async with self._client.pipeline(transaction=True) as steps:
            steps.rpush(key, *items)
            steps.ltrim(key, -self._clicks, -1)
            steps.pexpire(key, max(1, round(self._ttl * 1000)))
            steps.lrange(key, 0, -1)
            *_, kept = await steps.execute()
        return self._checked(kept)

    def _checked(self, kept: Any) -> list[bytes]:
        if not isinstance(kept, list) or len(kept) > self._clicks:
            raise TypeError("not the list that was asked for")
        return kept

    def _tell(self, error: Exception) -> None:
        """Log a failure by its type, and by the code that Redis itself gives; its text may quote a session."""
        now = time.monotonic()
        if now - self._told_at < _TOLD:
            self._untold += 1
            return
        first = str(error).partition(" ")[0]
        code = {"code": first} if first.isascii() and first.isalpha() and first.isupper() else {}
        log_event("sessions_unavailable", level="error", reason=type(error).__name__, **code, untold=self._untold)
        self._told_at, self._untold = now, 0

    def sweep(self) -> Held:
        """See `SessionStore.sweep`; Redis forgets by itself, and this process holds none."""
        return Held(0, 0)

    async def close(self) -> None:
        """See `SessionStore.close`."""
        await self._client.aclose()
        await self._client.connection_pool.disconnect()
