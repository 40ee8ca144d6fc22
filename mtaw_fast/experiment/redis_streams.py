"""The streams of Redis that keep feedback: their address, and their lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

from mtaw_fast.errors import DataError, require

REDIS = ("redis://", "rediss://", "unix://")
_DEFAULT_STREAM = "mtaw:feedback"
_READ_ENTRIES = 5_000
_PASSWORD_VARIABLE = "MTAW_REDIS_PASSWORD"


def redis_address(url: str) -> tuple[str, str]:
    """Return the address of Redis without, and the stream with, what `?stream=NAME` says.

    Raises ValueError on other parameters; the address of a socket, unix://PATH, may have db.
    """
    address, _, query = url.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    stream = options.pop("stream", "") or _DEFAULT_STREAM
    database = options.pop("db", "") if url.startswith("unix://") else ""
    if options:
        raise ValueError(f"it may name a stream, and names {', '.join(sorted(options))}")
    return (f"{address}?db={database}" if database else address), stream


def newest_in(address: str, stream: str) -> Any:
    """Return the id of a stream's last entry; one before all ids if it has none."""
    with _connected(address, stream) as client:
        found = client.xrevrange(stream, count=1)
        return found[0][0] if found else "-"


def entries(address: str, stream: str, newest: Any = "+") -> Iterator[bytes]:
    """Yield the lines in a stream, up to the one of the id `newest`."""
    with _connected(address, stream) as client:
        start: Any = "-"
        while found := client.xrange(stream, min=start, max=newest, count=_READ_ENTRIES):
            yield from (values[b"f"] for _, values in found if b"f" in values)
            start = b"(" + found[-1][0]


@contextmanager
def _connected(address: str, stream: str) -> Iterator[Any]:
    """Yield a client of Redis. Raises DataError, which names a stream, where Redis cannot be read."""
    redis = require("redis", "serve")
    password = os.environ.get(_PASSWORD_VARIABLE, "").strip()
    try:
        with redis.Redis.from_url(address, **({"password": password} if password else {})) as client:
            yield client
    except (redis.RedisError, ValueError) as error:  # ValueError: not an address
        raise DataError(
            f"the stream {stream} cannot be read ({error}); check the address, and ${_PASSWORD_VARIABLE}"
        ) from None
