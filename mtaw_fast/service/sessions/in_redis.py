"""The session store in Redis, shared by all workers; sessions outlive the service."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mtaw_fast.errors import UsageError
from mtaw_fast.service.errors import ServiceError, unavailable
from mtaw_fast.service.observability.service_log import log_event
from mtaw_fast.service.redis_client import connected, redis_client
from mtaw_fast.service.sessions.in_memory import TypedClicks, Types, Usage, max_session_bytes, with_types

_PREFIX = "mtaw:session:"
_CONTEXT_PREFIX = "mtaw:context:"
_LOG_INTERVAL = 1.0  # seconds between two log lines about a failing store
_CLICKS = msgspec.json.Decoder(int | str | tuple[int | str, str])
_CONTEXT = msgspec.json.Decoder(dict[str, int | str | None])


class RedisSessions:
    """`SessionStore` in Redis: a list a session and a text for its context, which expire `ttl` seconds after the last
    click."""

    def __init__(self, url: str, ttl: float, clicks: int, timeout: float, password: str | None = None) -> None:
        """Connect to Redis. timeout: seconds to connect, and for a reply.

        Raises MissingPackageError if the package redis is not installed, UsageError on an address that is not one of
        Redis.
        """
        try:
            self._client = redis_client(url, timeout, password)
        except (ValueError, TypeError) as error:  # neither quotes the URL, which may hold a password
            raise UsageError(f"--sessions: not an address of Redis ({error}); give redis://host:6379/0") from None
        self._ttl, self._clicks, self._session_bytes = ttl, clicks, max_session_bytes(clicks)
        self._logged_at, self._unlogged = -_LOG_INTERVAL, 0

    async def click(self, session: str, items: Sequence[int | str], types: Types | None = None) -> TypedClicks:
        """See `SessionStore.click`. All steps are one transaction, so that no concurrent click is lost."""
        key = _PREFIX + session
        sent = [msgspec.json.encode(click) for click in with_types(items, types)]
        try:
            kept = await connected(self._client, lambda: self._append(key, sent))
            return TypedClicks.of([_CLICKS.decode(click) for click in kept])
        except Exception as error:
            raise self._unavailable(error) from None

    async def clicks(self, session: str) -> list[int | str]:
        """See `SessionStore.clicks`."""
        key = _PREFIX + session
        try:
            kept = await connected(self._client, lambda: self._client.lrange(key, -self._clicks, -1))
            return TypedClicks.of([_CLICKS.decode(click) for click in self._checked(kept)]).items
        except Exception as error:
            raise self._unavailable(error) from None

    async def context(self, session: str, new_context: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """See `SessionStore.context`."""
        key, ttl = _CONTEXT_PREFIX + session, max(1, round(self._ttl * 1000))
        try:
            if new_context is not None:
                text = msgspec.json.encode(new_context)
                await connected(self._client, lambda: self._client.set(key, text, px=ttl))
                return new_context
            stored = await connected(self._client, lambda: self._client.getex(key, px=ttl))
            return None if stored is None else _CONTEXT.decode(stored)
        except Exception as error:
            raise self._unavailable(error) from None

    async def forget(self, session: str) -> None:
        """See `SessionStore.forget`."""
        try:
            await connected(self._client, lambda: self._client.delete(_PREFIX + session, _CONTEXT_PREFIX + session))
        except Exception as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: Exception) -> ServiceError:
        """Return the error of a request whose store failed; redis-py raises errors of many types."""
        self._log(error)
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
        fitting = self._checked(kept)
        if len(fitting) < len(kept):
            await self._client.ltrim(key, -len(fitting), -1)  # a click since then makes it drop another old one
        return fitting

    def _checked(self, stored: Any) -> list[bytes]:
        """Return the latest clicks that fit into the bytes of a session."""
        if not isinstance(stored, list) or len(stored) > self._clicks:
            raise TypeError("not the list of clicks")
        n_bytes, first = sum(map(len, stored)), 0
        while n_bytes > self._session_bytes and first < len(stored) - 1:
            n_bytes -= len(stored[first])
            first += 1
        return stored[first:] if first else stored

    def _log(self, error: Exception) -> None:
        """Log the type of a failure and the code that Redis gives; its text may quote a session."""
        now = time.monotonic()
        if now - self._logged_at < _LOG_INTERVAL:
            self._unlogged += 1
            return
        word = str(error).partition(" ")[0]
        code = {"code": word} if word.isascii() and word.isalpha() and word.isupper() else {}
        log_event("sessions_unavailable", level="error", reason=type(error).__name__, **code, unlogged=self._unlogged)
        self._logged_at, self._unlogged = now, 0

    def sweep(self) -> Usage:
        """See `SessionStore.sweep`: sessions expire in Redis, and this process holds none."""
        return Usage(0, 0)

    async def close(self) -> None:
        """See `SessionStore.close`."""
        await self._client.aclose()
        await self._client.connection_pool.disconnect()
