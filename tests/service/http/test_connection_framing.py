"""The end of a request: trailers, chunks and upgrades cannot smuggle in a request or take memory."""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path

import pytest

from tests.support.service.running import Running, rest, running

BODY = b'{"session": ["sku-11"], "k": 3}'
CHUNKED = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n%b\r\n"
UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    "websocket": b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n",
    "twice": b"Upgrade: a\r\nConnection: keep-alive\r\nConnection: upgrade\r\nUpgrade: b/1\r\n",
}


def chunks(*pieces: bytes) -> bytes:
    """Return the chunks of a body, without the final empty one."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def post(headers: bytes, body: bytes = BODY) -> bytes:
    return b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (headers, len(body), body)


LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def statuses(connection: socket.socket) -> list[bytes]:
    """Return the statuses of all answers until the connection ends."""
    return re.findall(rb"HTTP/1\.1 (\d{3}) ", rest(connection))


def test_a_trailer_is_not_a_header(text_service: Running) -> None:
    with text_service.raw() as connection:
        trailer = b"0\r\nAuthorization: Bearer s3cret\r\n\r\n"
        connection.sendall(CHUNKED % (b"/admin/reload", b"") + trailer + LAST)
        assert statuses(connection) == [b"401", b"200"]
    assert text_service.ask("POST", "/admin/reload", headers={"Authorization": "Bearer s3cret"}).status == 200


def test_a_few_trailers_are_no_error(text_service: Running) -> None:
    with text_service.raw() as connection:
        message = chunks(BODY[:7], BODY[7:]) + b"0\r\nX-Checksum: 1\r\nX-Other: 2\r\n\r\n"
        connection.sendall(CHUNKED % (b"/v1/recommend", b"") + message + LAST)
        assert statuses(connection) == [b"200", b"200"]


@pytest.mark.parametrize("end", [b"0\r\n" + b"T: v\r\n" * 5000, b"0\r\nT: " + b"v" * 30_000, b"3;" + b"x" * 30_000])
def test_trailers_and_chunk_sizes_have_an_end(text_service: Running, end: bytes) -> None:
    with text_service.raw() as connection:
        connection.sendall(CHUNKED % (b"/v1/recommend", b"") + chunks(BODY))
        with contextlib.suppress(OSError):  # it has hung up
            for begin in range(0, len(end), 1000):
                connection.sendall(end[begin : begin + 1000])
        # The end may overtake the answer: what it did not read it resets.
        assert statuses(connection) in ([b"400"], [])


def test_endless_trailers_take_no_memory(text_bundle: Path) -> None:
    with running(text_bundle) as service, service.raw() as connection:
        before = service.peak_bytes()
        connection.sendall(CHUNKED % (b"/v1/recommend", b"") + chunks(BODY) + b"0\r\n")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 50_000_000:
                connection.sendall(b"Trailer-Of-Mine: some value that is kept\r\n" * 1000)
                sent += 42_000
        assert sent < 50_000_000
        assert service.ask("POST", "/v1/recommend", BODY).status == 200
        assert service.peak_bytes() - before < 8 << 20


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("cut", [0, -1, -len(BODY), -len(BODY) - 5])
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


def test_the_body_of_an_upgrade_is_not_a_request(text_service: Running) -> None:
    hidden = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    data = post(UPGRADES["h2c"], hidden)
    with text_service.raw() as connection:
        connection.sendall(data[: -len(hidden)])
        connection.sendall(hidden)
        connection.sendall(LAST)
        assert statuses(connection) == [b"400", b"200"]


def test_an_upgrade_may_come_in_chunks(text_service: Running) -> None:
    data = CHUNKED % (b"/v1/recommend", UPGRADES["websocket"]) + chunks(BODY[:5], BODY[5:]) + b"0\r\nT: v\r\n\r\n"
    with text_service.raw() as connection:
        connection.sendall(data * 3 + LAST)
        assert statuses(connection) == [b"200"] * 4


def test_connect_is_refused(text_service: Running) -> None:
    with text_service.raw() as connection:
        connection.sendall(b"CONNECT elsewhere:80 HTTP/1.1\r\nHost: elsewhere\r\n\r\n" + LAST)
        assert statuses(connection) == [b"400"]


GZIP = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\n%b\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: y\r\nhost: z\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /healthz\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/0.9\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", b"400"),
        (GZIP % b"Transfer-Encoding: gzip, chunked\r\n", b"501"),
        (GZIP % b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", b"501"),
        (GZIP % b"Transfer-Encoding: chunked, gzip\r\n", b"400"),
        (GZIP % b"Transfer-Encoding: chunked, chunked\r\n", b"400"),
        (GZIP.replace(b"1.1", b"1.0") % b"Transfer-Encoding: chunked\r\n", b"400"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /healthz HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n", b"200"),
    ],
)
def test_heads_that_a_proxy_may_read_in_another_way_are_refused(
    text_service: Running, sent: bytes, status: bytes
) -> None:
    with text_service.raw() as connection:
        connection.sendall(sent)
        answer = rest(connection)
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) == [status]
    assert b"x-content-type-options: nosniff\r\n" in answer


def test_a_refused_head_ends_the_connection(text_service: Running) -> None:
    with text_service.raw() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + LAST)
        assert statuses(connection) == [b"400"]
