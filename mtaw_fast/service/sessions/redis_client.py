"""A client of Redis for a worker that serves thousands of connections by one event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from mtaw_fast.errors import require

_MOST = 64  # connections of a worker: who finds them busy waits for one, up to the timeout


class ConnectionsBusyError(Exception):
    """All connections of this process were busy for as long as a request waits. Redis itself may be well."""


def redis_client(url: str, timeout: float, password: str | None) -> Any:
    """An asyncio client that connects when it is first asked; whoever closes it disconnects its pool, too.

    Parameters
    ----------
    url : str
        redis://host:port/db or the like.
    timeout : float
        Seconds that Redis has to connect and to answer, and that a request waits for a free connection.
    password : str, optional
        In place of the one that `url` may hold.

    Raises
    ------
    ValueError, TypeError
        Where `url` is no address of a Redis; their text does not quote it.
    MissingPackageError
        Where the package redis is not installed.
    """
    redis: Any = require("redis.asyncio", "serve")
    options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    if password is not None:
        options["password"] = password

    class Pool(redis.BlockingConnectionPool):
        """Not the pool by default, which refuses where all its connections are busy: a burst is to wait its turn."""

        async def get_connection(self, *arguments: Any, **more: Any) -> Any:
            """A free connection. Raises ConnectionsBusyError where there is none in time: no error of a connection,
            after which callers would connect anew and wait once more."""
            try:
                return await super().get_connection(*arguments, **more)
            except redis.ConnectionError as error:
                if isinstance(error.__cause__, asyncio.TimeoutError):
                    raise ConnectionsBusyError(str(error)) from None
                raise

    pool = Pool.from_url(url, max_connections=_MOST, timeout=timeout, **options)
    pool.make_connection()  # connects to nothing, and finds options that do not exist
    return redis.Redis(connection_pool=pool)
