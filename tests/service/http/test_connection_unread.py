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
    connections = OpenConnections()
    stubs: list[Any] = [Stub(connections) for _ in range(5)]
    for stub in stubs[:3]:
        connections.hold_unread(stub, 300)
    connections.release_unread(stubs[0])
    connections.hold_unread(stubs[0], 400)
    assert not any(stub.dropped for stub in stubs)
    connections.hold_unread(stubs[3], 200)  # 1,200 bytes
    assert [stub.dropped for stub in stubs] == [False, True, False, False, False]
    connections.hold_unread(stubs[4], 5000)
    assert [stub.dropped for stub in stubs] == [True, True, True, True, False]
    connections.release_unread(stubs[4])
    connections.hold_unread(stubs[0], 1000)
    assert not stubs[4].dropped


def test_no_request_is_begun_while_an_answer_is_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = OpenConnections()
    monkeypatch.setattr(TimedProtocol, "open_connections", connections)
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
            assert 0 < sum(connections.unread.values()) <= len(ANSWER)
            (protocol,) = connections.waiting
            assert protocol.flow.read_paused
            received = 0
            while received < 100 * len(ANSWER):
                received += len(await asyncio.wait_for(loop.sock_recv(link, 1 << 20), 10))
            assert begun == 100
            await loop.sock_sendall(link, REQUEST)
            while received < 101 * len(ANSWER):
                received += len(await asyncio.wait_for(loop.sock_recv(link, 1 << 20), 10))
            assert not connections.unread
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.sleep(0.05)
        assert not connections.waiting
        assert not connections.working

    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
