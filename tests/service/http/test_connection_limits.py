"""Many waiting connections do not keep other clients from being served."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtaw_fast.service.http.connection import TimedProtocol, _Flow
from mtaw_fast.service.http.open_connections import OpenConnections
from tests.support.service.running import Running, running

PING = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
MAX_CONNECTIONS = 20


@pytest.fixture(scope="module")
def service(text_bundle: Path) -> Iterator[Running]:
    """A worker with few connections."""
    with running(text_bundle, "--max-connections", str(MAX_CONNECTIONS), "--read-timeout", "30") as service:
        yield service
        service.assert_no_error()


def ping(link: socket.socket) -> bool:
    """Send a request; return whether it is answered."""
    link.sendall(PING)
    received = b""
    while not received.endswith(b"}"):
        if not (chunk := link.recv(1 << 16)):
            return False
        received += chunk
    return received.startswith(b"HTTP/1.1 200")


def ended(link: socket.socket, seconds: float) -> bool:
    """Return whether the service ends the connection within so many seconds."""
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


def test_silent_connections_block_no_request(service: Running) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3 * MAX_CONNECTIONS):
            stack.enter_context(service.raw())
        for _ in range(5):
            assert service.ask("GET", "/healthz", timeout=5).status == 200


def test_unfinished_requests_block_no_request(service: Running) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(3 * MAX_CONNECTIONS):
            part = PING[:-4] if number % 2 else b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"
            stack.enter_context(service.raw()).sendall(part)
        for _ in range(5):
            assert service.ask("GET", "/healthz", timeout=5).status == 200


CLICK = (
    b"POST /v1/sessions/a/click HTTP/1.1\r\nHost: localhost\r\nContent-Length: 21\r\n\r\n" + b'{"items": ["sku-11"]}'
)


@contextlib.contextmanager
def besieged(service: Running, attack: Callable[[socket.socket], Any], threads: int = 4) -> Iterator[None]:
    """Keep 80 connections in the state that `attack` brings them into, and open new ones for those that are closed."""
    over = threading.Event()

    def besiege() -> None:
        links: list[socket.socket] = []
        with contextlib.ExitStack() as stack:
            while not over.is_set():
                if len(links) < 4 * MAX_CONNECTIONS // threads:
                    with contextlib.suppress(OSError):
                        links.append(stack.enter_context(service.raw()))
                        attack(links[-1])
                    continue
                time.sleep(0.01)
                links = [link for link in links if not gone(link)]

    def gone(link: socket.socket) -> bool:
        link.settimeout(0)
        try:
            return link.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    running_threads = [threading.Thread(target=besiege) for _ in range(threads)]
    for thread in running_threads:
        thread.start()
    time.sleep(0.5)
    try:
        yield
    finally:
        over.set()
        for thread in running_threads:
            thread.join()


def whole_and_half(link: socket.socket) -> None:
    link.sendall(PING + PING[:-4])


def half(link: socket.socket) -> None:
    link.sendall(PING[:-4])


def unread(link: socket.socket) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    link.settimeout(0.05)
    link.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 300)


@pytest.mark.parametrize("attack", [whole_and_half, half, unread])
def test_clients_are_answered_whatever_state_others_leave_their_connections_in(
    service: Running, attack: Callable[[socket.socket], Any]
) -> None:
    with besieged(service, attack):
        begin, answers = time.monotonic(), 0
        while time.monotonic() < begin + 0.5 or answers < 5:
            assert service.ask("GET", "/healthz", timeout=3).status == 200
            answers += 1
        assert time.monotonic() < begin + 3


def test_a_client_in_use_is_not_closed_for_stalled_ones(service: Running) -> None:
    with besieged(service, whole_and_half, threads=1), service.raw() as link:
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


def test_work_that_has_just_begun_is_not_closed() -> None:
    closed = []

    class Connection:
        is_idle = False

        def __init__(self, since: float) -> None:
            self.since = since

        def drop(self) -> None:
            closed.append(self)
            connections.forget(self)  # type: ignore[arg-type]

    connections = OpenConnections(deadline=0.1)
    works, later, waits, sends = (Connection(since) for since in (5.0, 7.0, 6.0, 7.0))
    for connection in (works, later):
        connections.place(connection, True)  # type: ignore[arg-type]
    for connection in (waits, sends):
        connections.place(connection, False)  # type: ignore[arg-type]
    assert [connections.make_room(7.5) for _ in range(4)] == [True, True, True, False]
    assert closed == [waits, sends, works]
    assert connections.make_room(8.0)


def test_an_answer_that_nobody_reads_closes_its_connection_in_time() -> None:
    class Transport:
        aborted = False
        unread = 0

        def abort(self) -> None:
            self.aborted = True

        def get_write_buffer_size(self) -> int:
            return self.unread

    connection, transport = TimedProtocol.__new__(TimedProtocol), Transport()
    connection.transport, connection.pipeline = transport, deque()  # type: ignore[assignment]
    connection._reading_until = connection._writing_until = None
    connection._in_message, connection._unanswered, connection.since = False, deque(), 100.0
    connection.expire(100.0 + TimedProtocol.read_timeout + 1)
    assert not transport.aborted
    transport.unread = 1  # less than makes the transport pause
    connection.expire(100.0 + TimedProtocol.read_timeout - 1)
    assert not transport.aborted
    connection.expire(100.0 + TimedProtocol.read_timeout + 1)
    assert transport.aborted


def test_a_client_is_not_late_while_nothing_is_read() -> None:
    class Transport:
        aborted = False

        def pause_reading(self) -> None: ...

        def resume_reading(self) -> None: ...

        def get_write_buffer_size(self) -> int:
            return 0

        def abort(self) -> None:
            self.aborted = True

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
