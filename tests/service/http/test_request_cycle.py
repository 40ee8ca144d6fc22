"""How responses are written: one write for a response of one piece."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from mtaw_fast.service.http.request_cycle import TIMED_OUT, RequestCycle

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"5")]


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class Flow:
    """Flow control of a connection that is never full."""

    write_paused = False
    read_paused = False

    def resume_reading(self) -> None:
        """Do nothing."""


def cycle(transport: Transport, method: str = "GET", keep_alive: bool = True) -> RequestCycle:
    flow: Any = Flow()
    scope: Any = {"type": "http", "method": method, "http_version": "1.1"}
    return RequestCycle(
        scope=scope, transport=transport, flow=flow, logger=logging.getLogger(), access_logger=logging.getLogger(),  # type: ignore[arg-type]
        access_log=False, default_headers=[(b"date", b"now")], message_event=asyncio.Event(),
        expect_100_continue=False, keep_alive=keep_alive, on_response=lambda: None,
    )  # fmt: skip


def answered(one: RequestCycle, headers: list[tuple[bytes, bytes]], *bodies: bytes, status: int = 200) -> None:
    async def main() -> None:
        await one.send({"type": "http.response.start", "status": status, "headers": headers})
        for number, body in enumerate(bodies, 1):
            await one.send({"type": "http.response.body", "body": body, "more_body": number < len(bodies)})

    asyncio.run(main())


def test_a_whole_answer_is_one_write() -> None:
    transport = Transport()
    request_cycle = cycle(transport)
    answered(request_cycle, HEADERS, b"hello")
    assert transport.written == [
        b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
    ]
    assert request_cycle.response_complete
    assert not transport.closed


@pytest.mark.parametrize(("keep_alive", "more"), [(False, []), (True, [(b"connection", b"close")])])
def test_the_last_answer_says_so_once_and_closes(keep_alive: bool, more: list[tuple[bytes, bytes]]) -> None:
    transport = Transport()
    answered(cycle(transport, keep_alive=keep_alive), [*HEADERS, *more], b"hello")
    assert transport.written[0].count(b"connection: close\r\n") == 1
    assert transport.closed


@pytest.mark.parametrize("keep_alive", [True, False])
def test_an_answer_without_messages_has_the_same_bytes(keep_alive: bool) -> None:
    ours, theirs = Transport(), Transport()
    answered(cycle(theirs, "POST", keep_alive), HEADERS, b"hello")
    request_cycle = cycle(ours, "POST", keep_alive)
    assert request_cycle.respond(b"content-type: text/plain\r\ncontent-length: 5\r\n", b"hello")
    assert ours.written == theirs.written
    assert (request_cycle.response_complete, ours.closed) == (True, not keep_alive)
    assert not request_cycle.respond(b"", b"")  # it has its answer


def test_an_answer_without_messages_is_not_written_to_a_full_or_closed_connection() -> None:
    transport = Transport()
    request_cycle = cycle(transport, "POST")
    request_cycle.flow.write_paused = True
    assert not request_cycle.respond(b"content-length: 0\r\n", b"")
    request_cycle.flow.write_paused, request_cycle.disconnected = False, True
    assert request_cycle.respond(b"content-length: 0\r\n", b"")
    answered(request_cycle, HEADERS, b"hello")
    assert transport.written == []


def test_the_server_s_headers_may_change_between_answers() -> None:
    transport = Transport()
    for date in (b"now", b"later"):
        request_cycle = cycle(transport, "POST")
        request_cycle.default_headers = [(b"date", date)]
        request_cycle.respond(b"content-length: 0\r\n", b"")
    assert [b"date: now" in text for text in transport.written] == [True, False]


def test_a_body_is_taken_at_once_only_if_it_is_whole_and_within_the_limit() -> None:
    request_cycle = cycle(Transport(), "POST")
    request_cycle.body += b"12345"
    assert request_cycle.whole_body(5) is None
    request_cycle.more_body = False
    assert request_cycle.whole_body(4) is None
    assert request_cycle.whole_body(5) == b"12345"
    waits = cycle(Transport(), "POST")
    waits.more_body, waits.waiting_for_100_continue = False, True
    assert waits.whole_body(5) is None


@pytest.mark.parametrize(
    ("method", "headers", "end"),
    [
        ("HEAD", HEADERS, b"content-length: 5\r\n\r\n"), ("GET", HEADERS, b"\r\n\r\nhello"),
        ("GET", HEADERS[:1], b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    ],
)  # fmt: skip
def test_pieces_go_out_as_they_come(method: str, headers: list[tuple[bytes, bytes]], end: bytes) -> None:
    transport = Transport()
    answered(cycle(transport, method), headers, b"he", b"llo")
    assert b"".join(transport.written).endswith(end)


@pytest.mark.parametrize("body", [b"hell", b"hello!"])
def test_a_wrong_content_length_is_an_error(body: bytes) -> None:
    with pytest.raises(RuntimeError, match="Content-Length"):
        answered(cycle(Transport()), HEADERS, body)


def test_a_slow_body_differs_from_a_client_that_left() -> None:
    request_cycle = cycle(Transport(), "POST")
    request_cycle.body += b"half"
    request_cycle.time_out()
    assert asyncio.run(request_cycle.receive()) == {"type": "http.disconnect", TIMED_OUT: True}
    whole = cycle(Transport(), "POST")
    whole.body += b"whole"
    whole.more_body = False
    whole.time_out()
    assert asyncio.run(whole.receive())["body"] == b"whole"
