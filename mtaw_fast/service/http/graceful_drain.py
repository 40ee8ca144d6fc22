"""Without workers, as while the service stops, new connections get a 503, and none is reset without an answer."""

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

from mtaw_fast.service.errors import ErrorAnswer, ErrorDetail, unavailable
from mtaw_fast.service.resources import connection_limit

HANDSHAKE = 0.25  # seconds that a TCP handshake may take
_PATIENCE = 1.0  # seconds that a client has to send something, and again to read the answer
_MAX_CONNECTIONS = 4096  # clients at once
_ACCEPTS = 64  # in one turn

# Classic BPF on the TCP header: drops packets that begin a connection (SYN without ACK), passes all others.
_NO_SYN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # of Linux


def block_new_connections(listener: socket.socket) -> None:
    """Make the kernel begin no more connections; those that have begun can still be accepted.

    Closing a listener resets the connections that wait in it. Without this filter, which only Linux has, a connection
    that comes between the last accept and the close is reset.
    """
    if sys.platform != "linux":
        return
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in _NO_SYN))
    with contextlib.suppress(OSError):
        listener.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_NO_SYN), ctypes.addressof(code))
        )


def allow_new_connections(listener: socket.socket) -> None:
    """Undo `block_new_connections`."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


STOPPING = "the service is shutting down; try again, or use another one"
NO_WORKER = "no worker of the service can start; its log says why"


def refusal(version: str, reason: str = STOPPING) -> bytes:
    """Return the whole 503 response of a service without workers. version: of the bundle that it served."""
    problem = unavailable("not_ready", reason)
    detail = ErrorDetail(code=problem.code, message=str(problem))
    body = msgspec.json.encode(ErrorAnswer(error=detail, version=version))
    head = [
        "HTTP/1.1 503 Service Unavailable", "content-type: application/json", "x-content-type-options: nosniff",
        f"content-length: {len(body)}",
        *(f"{name.lower()}: {value}" for name, value in problem.headers.items()), f"x-bundle-version: {version}",
        "connection: close",
    ]  # fmt: skip
    return "\r\n".join([*head, "", ""]).encode() + body


@dataclass
class _Client:
    """A client that waits for the response.

    until: a time of time.monotonic. A client is answered then even without a request, and closed then if it is
    answered.
    """

    until: float
    answered: bool = False


class GracefulDrain:
    """Accepts connections in place of the workers, and sends each client the same response."""

    def __init__(self, listener: socket.socket, answer: bytes) -> None:
        self._listener, self._answer = listener, answer
        self._clients: dict[socket.socket, _Client] = {}
        self._max_connections = connection_limit(_MAX_CONNECTIONS)
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)

    def turn(self, seconds: float) -> None:
        """Serve the clients that are there; wait for one for up to `seconds`."""
        for key, _ in self._selector.select(max(0.0, seconds)):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj in self._clients:  # otherwise it was closed in this turn, to make room for another client
                self._read(key.fileobj)
        now = time.monotonic()
        for link, client in list(self._clients.items()):
            if client.until > now:
                break  # the clients are sorted by `until`
            if client.answered:
                self._close(link)
            else:
                self._answer_to(link)

    def finish(self) -> None:
        """Accept no more connections; answer and close those that are open."""
        self._selector.unregister(self._listener)
        deadline = time.monotonic() + 2 * _PATIENCE
        for link, client in list(self._clients.items()):
            if not client.answered:
                self._answer_to(link)
        while self._clients and time.monotonic() < deadline:
            self.turn(0.05)
        for link in list(self._clients):
            self._close(link)
        self._selector.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            try:
                link, _ = self._listener.accept()
            except OSError:  # no client waits, a worker accepted it, or the file limit is reached
                return
            if len(self._clients) >= self._max_connections:
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
        """Answer, but keep reading: closing with unread data would send a reset that overtakes the answer."""
        del self._clients[link]
        self._clients[link] = _Client(time.monotonic() + _PATIENCE, answered=True)
        try:
            link.send(self._answer)  # fits the send buffer of a new connection
            link.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(link)

    def _close(self, link: socket.socket) -> None:
        del self._clients[link]
        self._selector.unregister(link)
        link.close()
