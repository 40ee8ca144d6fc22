"""A Redis client for a worker that serves thousands of connections in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mtaw_fast.errors import require

_MAX_CONNECTIONS = 64  # connections of a worker; a request waits for a free one, up to the timeout


class ConnectionsBusyError(Exception):
    """All connections of this process stayed busy for as long as a request waits. Redis itself may be fine."""


def redis_client(url: str, timeout: float, password: str | None) -> Any:
    """Return an asyncio client that connects at its first command. To close it, disconnect its pool, too.

    Parameters
    ----------
    url : str
        Address, as in redis://host:port/db.
    timeout : float
        Seconds to connect, for a reply, and that a request waits for a free connection.
    password : str, optional
        Replaces the one in `url`.

    Raises
    ------
    ValueError, TypeError
        If `url` is not an address of Redis. The message does not quote it.
    MissingPackageError
        If the package redis is not installed.
    """
    redis: Any = require("redis.asyncio", "serve")
    options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    if password is not None:
        options["password"] = password

    class Pool(redis.BlockingConnectionPool):
        """A pool in which a burst of requests waits for free connections; the default pool refuses them."""

        async def get_connection(self, *arguments: Any, **more: Any) -> Any:
            """Return a free connection. Raises ConnectionsBusyError if none becomes free in time.

            That is not a ConnectionError: after one, callers would reconnect and wait again.
            """
            try:
                return await super().get_connection(*arguments, **more)
            except redis.ConnectionError as error:
                if isinstance(error.__cause__, asyncio.TimeoutError):
                    raise ConnectionsBusyError(str(error)) from None
                raise

    pool = Pool.from_url(url, max_connections=_MAX_CONNECTIONS, timeout=timeout, **options)
    pool.make_connection()  # does not connect, but raises on unknown options
    return redis.Redis(connection_pool=pool)


async def connected(client: Any, command: Callable[[], Awaitable[Any]]) -> Any:
    """Return what a command of Redis returns; over a new connection if the open one is lost.

    Redis may have restarted: then every open connection is dead, and only using it shows that. A command whose answer
    alone was lost takes effect twice.
    """
    try:
        return await command()
    except require("redis.exceptions", "serve").ConnectionError:
        await client.connection_pool.disconnect(inuse_connections=False)
        return await command()
