"""Sending hostile cases, and judging the replies."""

from __future__ import annotations

import json
import re
import select
import socket
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from tests.support.service.hostile_cases import Case

PATIENCE = 30.0  # seconds for an answer or the end of the connection; machines are busy
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Reply:
    """status: of the final response; 0 if the connection closed without one, -1 if neither came in time."""

    status: int
    body: bytes = b""


def judged(one: Case, reply: Reply) -> str | None:
    """Return None, or what is wrong with this reply to this case."""
    if one.vanishes:
        return None
    if reply.status < 0:
        return f"neither an answer nor the end of the connection in {PATIENCE:g} s"
    if reply.status == 0:
        return "no answer to a whole request" if one.whole and not one.may_close else None
    if reply.status >= 500 and reply.status != 503 and b"transfer coding" not in reply.body:
        return f"status {reply.status}: {reply.body[:200]!r}"
    if one.accepted and reply.status != 200:
        return f"status {reply.status} instead of 200: {reply.body[:200]!r}"
    if one.refused and not 400 <= reply.status < 500:
        return f"status {reply.status} instead of a client error (4xx)"
    if one.whole and not one.may_close and reply.status >= 400:
        return _error_body(reply.body)
    return None


def _error_body(body: bytes) -> str | None:
    """Return None, or why this is not an error of the service: a code, and a message of one short line."""
    try:
        error = json.loads(body)["error"]
        code, message = error["code"], error["message"]
    except (ValueError, KeyError, TypeError):
        return f"an error that is not in the service's form: {body[:200]!r}"
    if not code.replace("_", "").isalpha() or not message or len(message) > 1000 or not message.isprintable():
        return f"an error without one short line: {body[:300]!r}"
    return None


def cycle(address: tuple[str, int], one: Case) -> Reply:
    """Send a case and read the reply; like clients, stop sending once an answer arrives."""
    deadline = time.monotonic() + PATIENCE
    with socket.create_connection(address, timeout=PATIENCE) as link:
        link.setblocking(False)
        if one.vanishes:
            with suppress(OSError):
                link.send(b"".join(one.pieces))
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
            return Reply(0)
        received = _send(link, one.pieces, deadline)
        if received is None:
            return Reply(0)
        if not one.whole and not received:
            with suppress(OSError):
                link.shutdown(socket.SHUT_WR)
        return _receive(link, received, one.head_only, deadline)


def _send(link: socket.socket, pieces: Iterable[bytes], deadline: float) -> bytes | None:
    """Send until an answer comes; return its first bytes, None if the connection broke."""
    for piece in pieces:
        view = memoryview(piece)
        while view:
            ready = wait_ready(link, select.POLLIN | select.POLLOUT, deadline - time.monotonic())
            try:
                if ready & ~select.POLLOUT:
                    return link.recv(1 << 16) or None
                if not ready:
                    return b""
                view = view[link.send(view) :]
            except BlockingIOError:
                continue
            except OSError:
                return None
    return b""


def wait_ready(link: socket.socket, events: int, seconds: float) -> int:
    """Wait for events, an error or the end of the connection; return them, 0 if none came within `seconds`."""
    poll = select.poll()  # select.select takes no descriptor above 1023, which many clients need
    poll.register(link, events)
    return next((flags for _, flags in poll.poll(max(0.0, seconds) * 1000)), 0)


def _receive(link: socket.socket, received: bytes, head_only: bool, deadline: float) -> Reply:
    """Read one final response, or to the end of the connection."""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        match = STATUS.match(head)
        if end and match:
            if match[1].startswith(b"1") and match[1] != b"101":
                received = body
                continue
            length = _LENGTH.search(head)
            if head_only or length is None or len(body) >= int(length[1]):
                return Reply(int(match[1]), body)
        if not wait_ready(link, select.POLLIN, deadline - time.monotonic()):
            return Reply(-1)
        try:
            chunk = link.recv(1 << 16)
        except BlockingIOError:
            continue
        except OSError:
            chunk = b""
        if not chunk:
            return Reply(int(match[1]), body) if match and end else Reply(0)
        received += chunk
