"""Answers that clients do not read: how many bytes of them the service holds, and what it does meanwhile."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from mtaw_fast.service.http import open_connections
from mtaw_fast.service.http.connection import TimedProtocol
from mtaw_fast.service.http.open_connections import OpenConnections

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"x" * (1 << 20)


class Stub:
    """A connection that can be dropped."""

    def __init__(self, some: OpenConnections) -> None:
        self.some, self.dropped = some, False

    def drop(self) -> None:
        self.dropped = True
        self.some.forget(self)  # type: ignore[arg-type]


def test_unread_answers_have_a_memory_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_connections, "_UNREAD", 1000)
    some = OpenConnections()
    stubs: list[Any] = [Stub(some) for _ in range(5)]
    for one in stubs[:3]:
        some.hold_unread(one, 300)
    some.release_unread(stubs[0])
    some.hold_unread(stubs[0], 400)
    assert not any(one.dropped for one in stubs)
    some.hold_unread(stubs[3], 200)  # 1,200 bytes
    assert [one.dropped for one in stubs] == [False, True, False, False, False]
    some.hold_unread(stubs[4], 5000)
    assert [one.dropped for one in stubs] == [True, True, True, True, False]
    some.release_unread(stubs[4])
    some.hold_unread(stubs[0], 1000)
    assert not stubs[4].dropped


def test_no_request_is_begun_while_an_answer_is_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    some = OpenConnections()
    monkeypatch.setattr(TimedProtocol, "open_connections", some)
    begun = done = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun, done
        begun += 1
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(ANSWER))]}
        )
        await send({"type": "http.response.body", "body": ANSWER})
        done += 1

    async def main() -> None:
        config = uvicorn.Config(app, lifespan="off", log_config=None)
        config.load()
        loop, state = asyncio.get_running_loop(), ServerState()
        server = await loop.create_server(
            lambda: TimedProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        with socket.create_connection(server.sockets[0].getsockname()) as link:
            link.setblocking(False)
            await loop.sock_sendall(link, REQUEST * 100)
            before = -1
            while before != begun or begun == 0:
                before = begun
                await asyncio.sleep(0.3)
            assert begun == done < 50
            assert 0 < sum(some.unread.values()) <= len(ANSWER)
            (one,) = some.waiting
            assert one.flow.read_paused
            received = 0
            while received < 100 * len(ANSWER):
                received += len(await asyncio.wait_for(loop.sock_recv(link, 1 << 20), 10))
            assert begun == 100
            await loop.sock_sendall(link, REQUEST)
            while received < 101 * len(ANSWER):
                received += len(await asyncio.wait_for(loop.sock_recv(link, 1 << 20), 10))
            assert not some.unread
        server.close()
        for left in list(state.connections):
            left.transport.abort()
        await asyncio.sleep(0.05)
        assert not some.waiting
        assert not some.working

    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
