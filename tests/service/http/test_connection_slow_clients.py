"""Clients that send slowly, incompletely, or no HTTP: they are dropped, and other clients do not notice."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service.running import BODY, HEAD, Running, eventually, rest, running


@pytest.fixture(scope="module")
def service(text_bundle: Path) -> Iterator[Running]:
    """A service with a read timeout of half a second."""
    with running(text_bundle, "--read-timeout", "0.5") as service:
        yield service
        assert service.ask("POST", "/v1/recommend", BODY).status == 200
        service.assert_no_error()


@pytest.mark.parametrize("sent", [b"", b"POST /v1/reco", HEAD[:-2], HEAD[:-4] + b"\r\nX-A: b"])
def test_headers_that_do_not_come(service: Running, sent: bytes) -> None:
    with service.raw() as connection:
        connection.sendall(sent)
        assert rest(connection) == b""


def test_headers_that_trickle_in(service: Running) -> None:
    start = time.monotonic()
    with service.raw() as connection, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for byte in HEAD * 9:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
    assert time.monotonic() - start < 10


def test_a_missing_body_gets_408(service: Running) -> None:
    with service.raw() as connection:
        connection.sendall(HEAD + BODY[:10])
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_timeout"' in answer
    assert b"connection: close" in answer


def test_a_body_for_a_route_that_does_not_read_it(service: Running) -> None:
    with service.raw() as connection:
        connection.sendall(HEAD.replace(b"/v1/recommend", b"/nope") + BODY[:10])
        assert rest(connection).startswith(b"HTTP/1.1 404 ")


def test_a_client_that_leaves_halfway(service: Running) -> None:
    left = 'mtaw_requests_total{route="/v1/recommend",status="0"}'
    before = service.metric(left)
    for data in (HEAD, HEAD + BODY[:10], HEAD[:20]):  # the last one is no request
        with service.raw() as connection:
            connection.sendall(data)
    eventually(lambda: service.metric(left) == before + 2)
    assert service.ask("POST", "/v1/recommend", BODY).status == 200


def test_a_client_that_does_not_read_its_answers(service: Running) -> None:
    with service.raw() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.2)
        with contextlib.suppress(OSError):  # it reads no more, or has closed
            for _ in range(20_000):
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP/1.1 200" in connection.recv(1000)
        connection.settimeout(20)
        time.sleep(1.5)
        rest(connection)  # ends, and does not time out


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 200_000,
    ],
)  # fmt: skip
def test_invalid_http_gets_a_4xx(service: Running, sent: bytes) -> None:
    with service.raw() as connection:
        connection.sendall(sent)
        assert re.match(rb"HTTP/1\.1 4\d\d ", rest(connection))


def test_a_websocket_is_not_opened(service: Running) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    with service.raw() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order(service: Running) -> None:
    with service.raw() as connection:
        paths = [b"/healthz", b"/nope", b"/readyz"]
        head = b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n"
        ends = [b"", b"", b"Connection: close\r\n"]
        connection.sendall(b"".join(head % pair for pair in zip(paths, ends, strict=True)))
        statuses = re.findall(rb"HTTP/1\.1 (\d+)", rest(connection))
    assert statuses == [b"200", b"404", b"200"]


@pytest.mark.parametrize("cut", [-1, -20, -len(BODY) - 2, -len(HEAD + BODY) + 9])
def test_pipelined_requests_may_be_cut_anywhere(service: Running, cut: int) -> None:
    data = (HEAD + BODY) * 600  # together far more than the headers of one may have
    with service.raw() as connection:
        connection.sendall(data[:cut])
        received = connection.recv(1)
        time.sleep(0.1)
        connection.sendall(data[cut:] + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received += rest(connection)
    assert received.count(b"HTTP/1.1 200 OK") == 601
    assert received.count(b"HTTP/1.1 ") == 601


def test_pipelined_requests_are_not_all_read_at_once(service: Running) -> None:
    (pid,) = service.worker_pids()

    def own_mib() -> int:
        return int(re.findall(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0]) >> 10

    def send(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)

    before = own_mib()
    with service.raw() as connection:
        sender = threading.Thread(target=send, args=(connection,))
        sender.start()
        answers = 0
        while answers < 6000:
            received = connection.recv(1 << 16)
            assert received
            answers += received.count(b"HTTP/1.1 200")
        assert own_mib() - before < 60  # MiB; more than 100 if they are
        connection.shutdown(socket.SHUT_RDWR)
        sender.join()


def test_an_idle_connection_is_kept(service: Running) -> None:
    connection = service.connect()
    for _ in range(2):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
        time.sleep(1.2)
    connection.close()


def test_connections_that_were_dropped_are_gone(service: Running) -> None:
    (pid,) = service.worker_pids()
    open_files = Path(f"/proc/{pid}/fd")
    before = len(list(open_files.iterdir()))
    connections = [service.raw() for _ in range(100)]
    for connection in connections:
        assert rest(connection) == b""
    eventually(lambda: len(list(open_files.iterdir())) <= before + 5)
    for connection in connections:
        connection.close()


def test_incomplete_bodies_have_a_memory_limit(text_bundle: Path) -> None:
    part = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n" + b" " * 1_000_000
    with running(text_bundle, "--read-timeout", "20") as service, contextlib.ExitStack() as open_connections:
        for _ in range(80):
            open_connections.enter_context(service.raw()).sendall(part)
        refused = 'mtaw_requests_total{route="/v1/recommend",status="503"}'
        eventually(lambda: service.metric(refused) >= 10)
        assert service.metric(refused) <= 20
        assert service.ask("POST", "/v1/recommend", BODY).status == 200
