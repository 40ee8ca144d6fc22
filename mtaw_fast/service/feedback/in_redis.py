"""Feedback in a Redis stream, of all machines together."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit, urlunsplit

from mtaw_fast.errors import UsageError, require
from mtaw_fast.service.sessions.redis_client import redis_client

_STREAM = "mtaw:feedback"
_FIELD = b"f"


class RedisFeedback:
    """`FeedbackStore` in a Redis stream: an entry a line, in the field `f`. Who reads it trims it.

    Parameters
    ----------
    url : str
        redis://host:port/db, with ?stream=NAME for another stream than "mtaw:feedback".
    timeout : float
        Seconds that Redis has to connect, and to answer.
    password : str, optional
        Of that Redis.

    Raises
    ------
    UsageError
        Where the address is none of Redis.
    MissingPackageError
        Where the package redis is not installed.
    """

    def __init__(self, url: str, timeout: float, password: str | None = None) -> None:
        self._lost = require("redis.exceptions", "serve").ConnectionError
        try:
            parts = urlsplit(url)
            unknown = set(parse_qs(parts.query)) - {"stream"}
            if unknown:
                raise ValueError(f"it may name a stream, and names {', '.join(sorted(unknown))}")
            self._stream = parse_qs(parts.query).get("stream", [_STREAM])[0]
            self._client = redis_client(urlunsplit(parts._replace(query="")), timeout, password)
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"--feedback: no address of a Redis ({error}); give redis://host:6379/0, perhaps with ?stream=name"
            ) from None

    async def keep(self, line: bytes) -> None:
        """See `FeedbackStore.keep`."""
        try:
            await self._client.xadd(self._stream, {_FIELD: line})
        except self._lost:
            # Redis was started again, say: kept connections are dead without knowing it.
            await self._client.connection_pool.disconnect(inuse_connections=False)
            await self._client.xadd(self._stream, {_FIELD: line})

    async def close(self) -> None:
        """See `FeedbackStore.close`."""
        await self._client.aclose()
        await self._client.connection_pool.disconnect()
