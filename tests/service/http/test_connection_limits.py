"""Limits of connections, of answers that nobody reads, and of open files: other clients are served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from mtaw_fast.service.http import open_connections
from mtaw_fast.service.http.connection import TimedProtocol, _Flow
from mtaw_fast.service.http.open_connections import OpenConnections
from tests.support.service.besieging import PING, besieged, half, holding, idle
from tests.support.service.running import BODY, HEAD, Running, running

MAX_CONNECTIONS = 20


@pytest.fixture(scope="module")
def service(text_bundle: Path) -> Iterator[Running]:
    with running(text_bundle, "--max-connections", str(MAX_CONNECTIONS), "--read-timeout", "30") as service:
        yield service
        service.assert_no_error()


def ping(link: socket.socket) -> bool:
    link.sendall(PING)
    received = b""
    while not received.endswith(b"}"):
        if not (chunk := link.recv(1 << 16)):
            return False
        received += chunk
    return received.startswith(b"HTTP/1.1 200")


def ended(link: socket.socket, seconds: float) -> bool:
    link.settimeout(seconds)
    try:
        return link.recv(1) == b""
    except (TimeoutError, BlockingIOError):
        return False
    except ConnectionResetError:
        return True


def test_the_longest_idle_connection_is_closed_for_a_new_one(service: Running) -> None:
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(service.raw()) for _ in range(MAX_CONNECTIONS)]
        assert all(map(ping, links))
        assert ping(links[0])  # now the second one has been idle for longest
        assert ping(stack.enter_context(service.raw()))
        assert ended(links.pop(1), 5)
        time.sleep(0.2)
        assert not any(ended(link, 0) for link in links)


CLICK = (
    b"POST /v1/sessions/a/click HTTP/1.1\r\nHost: localhost\r\nContent-Length: 21\r\n\r\n" + b'{"items": ["sku-11"]}'
)


def whole_and_half(link: socket.socket) -> None:
    link.sendall(PING + PING[:-4])


def unread(link: socket.socket) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    link.settimeout(0.05)
    link.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 300)


@pytest.mark.parametrize("attack", [idle, half, whole_and_half, unread])
def test_clients_are_answered_whatever_state_others_leave_their_connections_in(
    service: Running, attack: Callable[[socket.socket], Any]
) -> None:
    with besieged(service.address, [holding(attack, MAX_CONNECTIONS)] * 4):
        time.sleep(0.5)
        begin, answers = time.monotonic(), 0
        while time.monotonic() < begin + 0.5 or answers < 5:
            assert service.ask("GET", "/healthz", timeout=3).status == 200
            answers += 1
        assert time.monotonic() < begin + 3


def test_a_client_in_use_is_not_closed_for_stalled_ones(service: Running) -> None:
    with besieged(service.address, [holding(whole_and_half, 4 * MAX_CONNECTIONS)]):
        time.sleep(0.5)
        with service.raw() as link:
            for _ in range(100):
                assert ping(link)
                time.sleep(0.01)


def test_connections_with_endless_work_are_closed_for_new_ones(text_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a Redis that does not answer: each click takes a second
        address = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with (
            running(text_bundle, "--max-connections", str(MAX_CONNECTIONS), "--sessions", address) as service,
            contextlib.ExitStack() as stack,
        ):
            for _ in range(MAX_CONNECTIONS):
                stack.enter_context(service.raw()).sendall(CLICK * 30)
            time.sleep(0.2)
            for _ in range(3):
                assert service.ask("GET", "/healthz", timeout=5).status == 200


class Stub:
    """A connection that does nothing until it is closed."""

    is_idle = False

    def __init__(self, among: OpenConnections, since: float = 0.0) -> None:
        self.among, self.since, self.dropped = among, since, False

    def drop(self) -> None:
        self.dropped = True
        self.among.forget(self)  # type: ignore[arg-type]


def test_work_that_has_just_begun_is_not_closed() -> None:
    connections = OpenConnections(deadline=0.1)
    stubs: list[Any] = [Stub(connections, since) for since in (5.0, 7.0, 6.0, 7.0)]
    for place, stub in enumerate(stubs):
        connections.place(stub, place < 2, half=False)  # two that work, two that wait
    closed = []
    for expected in (True, True, True, False):
        assert connections.make_room(7.5) == expected
        closed.append([stub.dropped for stub in stubs])
    first_waiting, waiting, worked = closed[:3]
    assert (first_waiting, waiting) == ([False, False, True, False], [False, False, True, True])
    assert worked == closed[3] == [True, False, True, True]
    assert connections.make_room(8.0)


def test_half_a_request_gives_way_at_once() -> None:
    connections = OpenConnections(deadline=60)
    idle, first, second, working = stubs = [Stub(connections, since) for since in (7.0, 7.01, 7.02, 1.0)]
    for stub in stubs:
        connections.place(stub, stub is working, half=stub in (first, second))  # type: ignore[arg-type]
    closed = []
    for now in (7.05, 7.06, 7.07, 7.2):
        assert connections.make_room(now) == (now != 7.07)
        closed.append([stub for stub in stubs if stub.dropped])
    assert closed == [[first], [first, second], [first, second], [idle, first, second]]
    connections.place(first, working=False, half=True)  # type: ignore[arg-type]
    connections.place(first, working=True, half=False)  # type: ignore[arg-type]
    assert not connections.make_room(7.3)  # it is whole now


@pytest.mark.parametrize(
    ("sent", "half"),
    [(b"", False), (PING[:9], True), (PING, False), (PING + PING[:9], True), (HEAD + BODY[:5], True),
     (PING + HEAD, True), (HEAD + BODY, False), (PING * 3, False)],
)  # fmt: skip
def test_which_connections_have_half_a_request(monkeypatch: pytest.MonkeyPatch, sent: bytes, half: bool) -> None:
    connections, received = OpenConnections(), 0
    parse = TimedProtocol.data_received

    def counted(protocol: TimedProtocol, data: bytes) -> None:
        nonlocal received
        received += len(data)
        parse(protocol, data)

    monkeypatch.setattr(TimedProtocol, "open_connections", connections)
    monkeypatch.setattr(TimedProtocol, "data_received", counted)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        async with _served(app) as address:
            with socket.create_connection(address) as link:
                for begin in range(0, len(sent), 7):
                    await asyncio.sleep(0.001)
                    link.send(sent[begin : begin + 7])
                await _until(lambda: received == len(sent) and len(connections.waiting) == 1)
                await _until(lambda: len(connections.half) == half)
            await _until(lambda: not connections.waiting)
            assert not connections.half

    asyncio.run(main())


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def _served(app: Any) -> AsyncIterator[Any]:
    """Serve an app in this process, on connections of `TimedProtocol`; yield the address."""
    config, state = uvicorn.Config(app, lifespan="off", log_config=None), ServerState()
    config.load()
    server = await asyncio.get_running_loop().create_server(
        lambda: TimedProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    yield server.sockets[0].getsockname()
    server.close()
    for connection in list(state.connections):
        connection.transport.abort()
    await asyncio.sleep(0.05)


class Transport:
    """A transport that holds some bytes which nobody reads."""

    aborted, unread = False, 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.aborted = True


def test_an_answer_that_nobody_reads_closes_its_connection_in_time() -> None:
    connection, transport = TimedProtocol.__new__(TimedProtocol), Transport()
    connection.transport, connection.pipeline = transport, deque()  # type: ignore[assignment]
    connection._reading_until = connection._writing_until = None
    connection._in_message, connection._unanswered, connection.since = False, deque(), 100.0
    # One byte is less than makes the transport pause.
    for unread, late, aborted in ((0, 1, False), (1, -1, False), (1, 1, True)):
        transport.unread = unread
        connection.expire(100.0 + TimedProtocol.read_timeout + late)
        assert transport.aborted == aborted


def test_a_client_is_not_late_while_nothing_is_read() -> None:
    connection, transport = TimedProtocol.__new__(TimedProtocol), Transport()
    now, late = 100.0, TimedProtocol.read_timeout + 1
    connection.loop = SimpleNamespace(time=lambda: now)  # type: ignore[assignment]
    connection.transport, connection.pipeline, connection._unanswered = transport, deque(), deque()  # type: ignore[assignment]
    connection.cycle, connection.since = None, now  # type: ignore[assignment]
    connection.flow = _Flow(transport, connection.pipeline, connection.loop.time, connection._wait_longer)  # type: ignore[arg-type]
    connection._in_message = connection._in_head = True
    connection._reading_until, connection._writing_until = now + TimedProtocol.read_timeout, None
    connection.flow.pause_reading()
    now += late
    connection.expire(now)
    assert not transport.aborted
    now += late  # no `expire` came meanwhile
    connection.flow.resume_reading()
    connection.expire(now)
    assert not transport.aborted
    for _ in range(9):  # short pauses give no more time than they took
        connection.flow.pause_reading()
        connection.flow.resume_reading()
    connection.expire(now + late)
    assert transport.aborted


@pytest.mark.parametrize(
    ("hard", "most"),
    [
        (100, 36),
        pytest.param(300, None, marks=pytest.mark.long(caught="here, with 100: there would be 26 connections")),
    ],
)
def test_a_low_file_limit_is_raised_and_respected(text_bundle: Path, hard: int, most: int | None) -> None:
    limited = f"import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (90, {hard})); "
    start = "from mtaw_fast.cli import main; sys.exit(main(sys.argv[1:]))"
    with (
        running(text_bundle, "--max-connections", "200", python=["-c", limited + start]) as service,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(120):
            stack.enter_context(service.raw())
        assert service.ask("GET", "/healthz", timeout=5).status == 200
        (pid,) = service.worker_pids()
        open_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        logged = [event["most"] for event in service.events("fewer_connections")]
        if most is None:
            assert open_files > 120
            assert not logged
        else:
            assert open_files <= 100
            assert logged == [most]


ANSWER = b"x" * (1 << 20)


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
        loop = asyncio.get_running_loop()
        async with _served(app) as address:
            with socket.create_connection(address) as link:
                link.setblocking(False)
                await loop.sock_sendall(link, PING * 100)
                before = -1
                while before != begun or begun == 0:
                    before = begun
                    await asyncio.sleep(0.3)
                assert begun == done < 50
                assert 0 < sum(connections.unread.values()) <= len(ANSWER)
                protocol: Any = next(iter(connections.waiting))
                assert protocol.flow.read_paused
                received = 0
                while received < 100 * len(ANSWER):
                    received += len(await asyncio.wait_for(loop.sock_recv(link, 1 << 20), 10))
                assert begun == 100
                await loop.sock_sendall(link, PING)
                while received < 101 * len(ANSWER):
                    received += len(await asyncio.wait_for(loop.sock_recv(link, 1 << 20), 10))
                assert not connections.unread
        assert not connections.waiting
        assert not connections.working

    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
