"""What ends a request, a connection and a wait: framing, slow clients, and clients that send no HTTP."""

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

ASKED = b'{"session": ["sku-11"], "k": 3}'
CHUNKED = b"POST %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n%b\r\n"
UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    "websocket": b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n",
    "twice": b"Upgrade: a\r\nConnection: keep-alive\r\nConnection: upgrade\r\nUpgrade: b/1\r\n",
}


def chunks(*pieces: bytes) -> bytes:
    """Return the chunks of a body, without the final empty one."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def post(headers: bytes, body: bytes = ASKED) -> bytes:
    return b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n%b" % (
        headers,
        len(body),
        body,
    )


LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def statuses(connection: socket.socket) -> list[bytes]:
    return re.findall(rb"HTTP/1\.1 (\d{3}) ", rest(connection))


@pytest.mark.parametrize("end", [b"0\r\n" + b"T: v\r\n" * 5000, b"0\r\nT: " + b"v" * 30_000, b"3;" + b"x" * 30_000])
def test_trailers_and_chunk_sizes_have_an_end(text_service: Running, end: bytes) -> None:
    with text_service.raw() as connection:
        connection.sendall(CHUNKED % (b"/v1/recommend", b"") + chunks(ASKED))
        with contextlib.suppress(OSError):  # it has hung up
            for begin in range(0, len(end), 1000):
                connection.sendall(end[begin : begin + 1000])
        # The end may overtake the answer: what it did not read it resets.
        assert statuses(connection) in ([b"400"], [])


def test_endless_trailers_take_no_memory(text_service: Running) -> None:
    with text_service.raw() as connection:
        before = text_service.peak_bytes()
        connection.sendall(CHUNKED % (b"/v1/recommend", b"") + chunks(ASKED) + b"0\r\n")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 50_000_000:
                connection.sendall(b"Trailer-Of-Mine: some value that is kept\r\n" * 1000)
                sent += 42_000
        assert sent < 50_000_000
        assert text_service.peak_bytes() - before < 8 << 20


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("cut", [0, -1, -len(ASKED), -len(ASKED) - 5])
def test_a_request_with_an_upgrade_is_answered_normally(text_service: Running, upgrade: bytes, cut: int) -> None:
    data = post(upgrade)
    with text_service.raw() as connection:
        connection.sendall(data[:cut] if cut else data)
        if cut:
            connection.settimeout(0.1)
            with pytest.raises(TimeoutError):
                connection.recv(1000)  # nothing yet
            connection.settimeout(20)
            connection.sendall(data[cut:])
        connection.sendall(data + LAST)
        assert statuses(connection) == [b"200"] * 3


ALIVE = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
TRAILERS = b"0\r\nX-Checksum: 1\r\nAuthorization: Bearer s3cret-of-the-tests\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (CHUNKED % (b"/admin/reload", b"") + TRAILERS, [b"401"]),  # a trailer is not a header
        (CHUNKED % (b"/v1/recommend", b"") + chunks(ASKED[:7], ASKED[7:]) + TRAILERS, [b"200"]),
        ((CHUNKED % (b"/v1/recommend", UPGRADES["websocket"]) + chunks(ASKED) + TRAILERS) * 3, [b"200"] * 3),
        (post(UPGRADES["h2c"], ALIVE % b"/metrics"), [b"400"]),  # the body of an upgrade is not a request
        (ALIVE % b"/healthz" + ALIVE % b"/nope" + ALIVE % b"/readyz", [b"200", b"404", b"200"]),
    ],
    ids=["trailer", "trailers", "upgrades in chunks", "body of an upgrade", "pipelined"],
)
def test_requests_on_one_connection_are_answered_in_order(
    text_service: Running, sent: bytes, expected: list[bytes]
) -> None:
    with text_service.raw() as connection:
        connection.sendall(sent + LAST)
        assert statuses(connection) == [*expected, b"200"]


GZIP = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\n%b\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: localhost\r\n\r\n" + LAST, b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: y\r\n\r\n" + LAST, b"400"),  # it ends the connection
        (b"nonsense\r\n\r\n", b"400"), (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 200_000, b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: y\r\nhost: z\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.0\r\nHost: localhost\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /healthz\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/0.9\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/2.0\r\nHost: localhost\r\n\r\n", b"400"),
        (GZIP % b"Transfer-Encoding: gzip, chunked\r\n", b"501"),
        (GZIP % b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", b"501"),
        (GZIP % b"Transfer-Encoding: chunked, gzip\r\n", b"400"),
        (GZIP % b"Transfer-Encoding: chunked, chunked\r\n", b"400"),
        (GZIP.replace(b"1.1", b"1.0") % b"Transfer-Encoding: chunked\r\n", b"400"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n", b"200"),
        (b"GET /healthz HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n", b"200"),
    ],
)  # fmt: skip
def test_heads_that_a_proxy_may_read_in_another_way_are_refused(
    text_service: Running, sent: bytes, status: bytes
) -> None:
    with text_service.raw() as connection:
        connection.sendall(sent)
        answer = rest(connection)
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) == [status]
    assert b"x-content-type-options: nosniff\r\n" in answer


@pytest.fixture(scope="module")
def service(text_bundle: Path) -> Iterator[Running]:
    with running(text_bundle, "--read-timeout", "0.5") as service:
        yield service
        assert service.ask("POST", "/v1/recommend", BODY).status == 200
        service.assert_no_error()


@pytest.mark.parametrize("sent", [b"", b"POST /v1/reco", HEAD[:-2], HEAD[:-4] + b"\r\nX-A: b"])
def test_headers_that_do_not_come(service: Running, sent: bytes) -> None:
    with service.raw() as connection:
        connection.sendall(sent)
        assert rest(connection) == b""


def test_a_head_that_trickles_in_ends(service: Running) -> None:
    start = time.monotonic()
    with service.raw() as connection, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for byte in HEAD * 9:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
    assert time.monotonic() - start < 10


def test_a_missing_body_gets_408_where_it_is_read(service: Running) -> None:
    with service.raw() as connection:
        connection.sendall(HEAD + BODY[:10])
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_timeout"' in answer
    assert b"connection: close" in answer
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
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1 200" in connection.recv(1000)
        connection.settimeout(20)
        time.sleep(1.5)
        rest(connection)  # ends, and does not time out


@pytest.mark.parametrize("cut", [-1, -20, -len(BODY) - 2, -len(HEAD + BODY) + 9])
def test_pipelined_requests_may_be_cut_anywhere(service: Running, cut: int) -> None:
    data = (HEAD + BODY) * 600  # together far more than the headers of one may have
    with service.raw() as connection:
        connection.sendall(data[:cut])
        received = connection.recv(1)
        time.sleep(0.1)
        connection.sendall(data[cut:] + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
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
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)

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
    part = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n" + b" " * 1_000_000
    with running(text_bundle, "--read-timeout", "20") as service, contextlib.ExitStack() as open_connections:
        for _ in range(80):
            open_connections.enter_context(service.raw()).sendall(part)
        refused = 'mtaw_requests_total{route="/v1/recommend",status="503"}'
        eventually(lambda: service.metric(refused) >= 10)
        assert service.metric(refused) <= 20
        assert service.ask("POST", "/v1/recommend", BODY).status == 200
