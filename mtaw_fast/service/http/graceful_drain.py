"""What a service that stops does with who still comes: answers, and closes without cutting anyone off."""

from __future__ import annotations

import contextlib
import ctypes
import selectors
import socket
import struct
import sys
import time
from dataclasses import dataclass

import msgspec

from mtaw_fast.service.http.file_limit import most_connections
from mtaw_fast.service.http.problems import unavailable
from mtaw_fast.service.routes.messages import ErrorAnswer, ErrorDetail

HANDSHAKE = 0.25  # seconds that a connection which has begun may take to come about
_PATIENCE = 1.0  # seconds that a client has to send something, and again to take the answer
_MOST = 4096  # clients at once
_AT_ONCE = 64  # accepted in a turn

# Classic BPF over the TCP header: drops what begins a connection (SYN without ACK), passes everything else.
_NO_SYN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # Linux's


def begin_no_connections(listener: socket.socket) -> None:
    """Let the kernel begin no more connections, while those that it has begun can still be accepted.

    Closing a listener resets what waits in it. Where the system has no such filter (it is Linux's), a connection that
    comes between the last look and the close is still reset.
    """
    if sys.platform != "linux":
        return
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in _NO_SYN))
    with contextlib.suppress(OSError):
        listener.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_NO_SYN), ctypes.addressof(code))
        )


def begin_connections(listener: socket.socket) -> None:
    """Undo `begin_no_connections`."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def refusal(version: str) -> bytes:
    """The whole response of status 503 that the service gives while it stops. version: of the bundle it served."""
    problem = unavailable("not_ready", "the service is shutting down; ask another one, or try again")
    detail = ErrorDetail(code=problem.code, message=str(problem))
    body = msgspec.json.encode(ErrorAnswer(error=detail, version=version))
    head = [
        "HTTP/1.1 503 Service Unavailable", "content-type: application/json", f"content-length: {len(body)}",
        *(f"{name.lower()}: {value}" for name, value in problem.headers.items()), f"x-bundle-version: {version}",
        "connection: close",
    ]  # fmt: skip
    return "\r\n".join([*head, "", ""]).encode() + body


@dataclass
class _Client:
    """until: on time.monotonic's clock, when it is answered unasked, and once answered, when it is closed."""

    until: float
    answered: bool = False


class GracefulDrain:
    """Accepts in the place of workers that do not any more, and answers everyone alike."""

    def __init__(self, listener: socket.socket, answer: bytes) -> None:
        self._listener, self._answer = listener, answer
        self._clients: dict[socket.socket, _Client] = {}
        self._most = most_connections(_MOST)
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)

    def turn(self, seconds: float) -> None:
        """See to whoever is there; where nobody is, for up to so many seconds."""
        for key, _ in self._selector.select(max(0.0, seconds)):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj in self._clients:  # else it was closed in this very turn, for one who came later
                self._read(key.fileobj)
        now = time.monotonic()
        for link, client in list(self._clients.items()):
            if client.until > now:
                break  # they are in the order of their times
            if client.answered:
                self._close(link)
            else:
                self._answer_to(link)

    def finish(self) -> None:
        """Accept no more, and end with those that are there."""
        self._selector.unregister(self._listener)
        until = time.monotonic() + 2 * _PATIENCE
        for link, client in list(self._clients.items()):
            if not client.answered:
                self._answer_to(link)
        while self._clients and time.monotonic() < until:
            self.turn(0.05)
        for link in list(self._clients):
            self._close(link)
        self._selector.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                link, _ = self._listener.accept()
            except OSError:  # nobody waits, a worker was quicker, or no file may be opened
                return
            if len(self._clients) >= self._most:
                self._close(next(iter(self._clients)))
            link.setblocking(False)
            self._clients[link] = _Client(time.monotonic() + _PATIENCE)
            self._selector.register(link, selectors.EVENT_READ)

    def _read(self, link: socket.socket) -> None:
        try:
            received = link.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._close(link)
        elif not self._clients[link].answered:
            self._answer_to(link)

    def _answer_to(self, link: socket.socket) -> None:
        """Answer, and go on reading: closing over what was not read would be a reset that overtakes the answer."""
        del self._clients[link]
        self._clients[link] = _Client(time.monotonic() + _PATIENCE, answered=True)
        try:
            link.send(self._answer)  # a fresh connection takes it whole
            link.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(link)

    def _close(self, link: socket.socket) -> None:
        del self._clients[link]
        self._selector.unregister(link)
        link.close()
