"""The store in Redis; wrong replies and refusals of Redis are a 503 and a line in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.cli.serve import _secret
from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.sessions import open_sessions
from mtaw_fast.service.sessions.in_redis import RedisSessions
from mtaw_fast.service.settings import Settings
from tests.support.redis_server import Redis
from tests.support.service.running import eventually, running

QUEUED = b"+OK\r\n" + b"+QUEUED\r\n" * 4
DONE = QUEUED + b"*4\r\n:1\r\n+OK\r\n:1\r\n"
REPLIES = {
    "a number for the clicks": DONE + b":7\r\n",
    "null for the clicks": DONE + b"*-1\r\n",
    "numbers among the clicks": DONE + b"*2\r\n:1\r\n$1\r\n1\r\n",
    "null among the clicks": DONE + b"*1\r\n$-1\r\n",
    "clicks that are no ids": DONE + b'*1\r\n$7\r\n{"a":1}\r\n',
    "clicks that are no JSON": DONE + b"*1\r\n$2\r\n\xff\xfe\r\n",
    "clicks nested deeply": DONE + b"*1\r\n$100000\r\n" + b"[" * 100_000 + b"\r\n",
    "more clicks than were asked for": DONE + b"*4\r\n" + b"$1\r\n1\r\n" * 4,
    "too few replies": QUEUED + b"*1\r\n:1\r\n",
    "a reply nested deeply": QUEUED + b"*1\r\n" * 100_000,
    "no transaction": QUEUED + b"*-1\r\n",
    "an unknown kind of reply": b"?what\r\n",
    "a number that is none": QUEUED + b"*x\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "nothing": b"",
}


@asynccontextmanager
async def store_at(serve: Callable[..., Any], timeout: float = 0.3) -> AsyncIterator[RedisSessions]:
    """Open a store over a server that is no Redis."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    store = RedisSessions(f"redis://{host}:{port}/0", ttl=9, clicks=3, timeout=timeout)
    try:
        yield store
    finally:
        await store.close()
        server.close()


def test_a_burst_waits_for_connections_and_reads_only_the_kept_clicks() -> None:
    asked_for: set[bytes] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if b"LRANGE" not in data:
                writer.write(b"%1\r\n+proto\r\n:3\r\n" * data.count(b"HELLO") + b"+OK\r\n" * data.count(b"CLIENT"))
                continue
            asked_for.add(data.split(b"LRANGE", 1)[1])
            await asyncio.sleep(0.005)
            writer.write(b"*1\r\n$1\r\n7\r\n")

    async def main() -> list[list[int | str]]:
        async with store_at(serve, timeout=5) as store:
            return list(await asyncio.gather(*(store.clicks("a") for _ in range(400))))

    assert asyncio.run(main()) == [[7]] * 400
    assert len(asked_for) == 1
    assert b"\r\n-3\r\n" in asked_for.pop()


def test_a_request_without_a_free_connection_fails_and_disconnects_no_other() -> None:
    """Redis accepts connections and never replies; there are more clicks than a worker has connections."""
    connected: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        await reader.read()

    async def main() -> list[Any]:
        async with store_at(serve) as store:
            return await asyncio.gather(*(store.clicks("a") for _ in range(200)), return_exceptions=True)

    failed = asyncio.run(main())
    assert all(isinstance(outcome, BaseException) for outcome in failed)
    assert len(connected) == 64, "a request without a free connection opened another one"
    assert sum("ConnectionsBusyError" in str(error) for error in failed) == 200 - 64


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_any_wrong_reply_is_a_503_and_logged(reply: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"LRANGE" not in (data := await reader.read(1 << 16)) and data:
            writer.write(b"+OK\r\n" * data.count(b"CLIENT"))
        writer.write(reply)
        writer.close()

    async def main() -> None:
        async with store_at(serve) as store:
            await store.click("a", ["x"])

    with caplog.at_level(logging.ERROR, "mtaw_fast.service"), pytest.raises(ServiceError) as caught:
        asyncio.run(main())
    assert (caught.value.status, caught.value.code) == (503, "sessions_unavailable")
    assert [record.getMessage() for record in caplog.records] == ["sessions_unavailable"]


@pytest.fixture
def guarded_redis(redis: Redis) -> Redis:
    """A Redis with a password."""
    redis.options = ("--requirepass", "s3 cret!")
    redis.stop()
    redis.start()
    return redis


def test_a_store_that_refuses_is_a_503_and_logged(guarded_redis: Redis, text_bundle: Path) -> None:
    with running(text_bundle, "--sessions", guarded_redis.url, environment={"MTAW_REDIS_PASSWORD": ""}) as service:
        reply = service.ask("POST", "/v1/sessions/very-private/click", {"items": ["sku-11"]})
        assert (reply.status, reply.code) == (503, "sessions_unavailable")
        (line,) = eventually(lambda: service.events("sessions_unavailable"))
        assert line["level"] == "error"
        assert "very-private" not in str(line)
        assert service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}).status == 200


@pytest.mark.parametrize("from_file", [False, True])
def test_a_password_comes_from_a_file_or_the_environment(
    guarded_redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_file: bool
) -> None:
    path = tmp_path / "password" if from_file else None
    if path is None:
        monkeypatch.setenv("MTAW_REDIS_PASSWORD", "s3 cret!")
    else:
        path.write_text("s3 cret!\n")
    password = _secret(path, "MTAW_REDIS_PASSWORD", "--sessions-password-file", "password")
    settings = Settings(tmp_path, sessions=guarded_redis.url, sessions_password=password)
    assert "s3 cret!" not in repr(settings)
    store = open_sessions(settings, 2)
    assert store is not None

    async def main() -> list[int | str]:
        try:
            return (await store.click("a", ["x"])).items
        finally:
            await store.close()

    assert asyncio.run(main()) == ["x"]


def test_a_redis_that_was_restarted_fails_no_request(redis: Redis) -> None:
    async def main() -> None:
        store = RedisSessions(redis.url, ttl=9, clicks=3, timeout=2)
        for ask in (
            lambda: store.context("a", {"referrer": "mail"}), lambda: store.context("a", None),
            lambda: store.forget("a"), lambda: store.clicks("a"), lambda: store.click("a", ["y"]),
        ):  # fmt: skip
            await store.click("a", ["x"])
            redis.stop()
            redis.start()
            await ask()
        await store.close()

    asyncio.run(main())
