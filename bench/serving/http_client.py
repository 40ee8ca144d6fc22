"""An open-loop HTTP/1.1 client on one thread: it sends each request at its time, however late the answers are.

It uses plain sockets, one epoll and prepared bytes, because the server on the same machine loses what the client uses.
asyncio rounds its timers up to whole milliseconds, which would add to the latencies; `select` on the epoll waits to the
microsecond.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import re
import select
import socket
import time
from collections import deque
from collections.abc import Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from mtaw_fast.errors import MtawError

_HEAD_START = 0.3  # seconds between connecting and the first arrivals
RESET, TIMED_OUT = -1, -2  # statuses of requests without an answer: connection lost, nothing in time
_RECONNECT = 0.02  # seconds until the next try after a connection was refused
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:\s*close", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Load:
    """What to send. requests: whole HTTP/1.1 requests. due: seconds from the start of each request, ascending.

    kept: numbers of the requests whose answers are kept. connections: number of kept connections, used in turn; a
    request waits for a free one, and the wait counts in its latency. timeout: seconds after its due time at which a
    request has failed.
    """

    address: tuple[str, int]
    requests: Sequence[bytes]
    due: np.ndarray
    kept: Set[int] = frozenset()
    connections: int = 64
    timeout: float = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The outcome of a load. Times are seconds on time.monotonic's clock, which all processes of a machine share.

    began: the time of due = 0. sent: float64[n], NaN if it was not sent. done: float64[n], when it was answered or
    failed. status: int16[n], HTTP's, or RESET or TIMED_OUT. port: int32[n], this client's, of the connection that it
    was sent on. kept: whole responses by request number. cpu: seconds of this client's processor time.
    """

    began: float
    due: np.ndarray
    sent: np.ndarray
    done: np.ndarray
    status: np.ndarray
    port: np.ndarray
    kept: dict[int, bytes] = field(repr=False)
    cpu: float

    @property
    def latency(self) -> np.ndarray:
        """Seconds from the time a request was due to the end of its answer: float64[n]."""
        return self.done - self.began - self.due

    @property
    def lateness(self) -> np.ndarray:
        """Seconds from due to sent, the client's own delays and waits for a free connection: float64[n]."""
        return self.sent - self.began - self.due


@dataclass(slots=True)
class _Connection:
    """A socket, and the number of the request in progress on it (-1: none)."""

    socket: socket.socket
    number: int = -1
    port: int = 0
    connected: bool = False
    buffer: bytes = b""


class Client:
    """Runs one Load. Creating it makes the connections; `run` sends, reads and returns the outcome."""

    def __init__(self, load: Load) -> None:
        if len(load.requests) != len(load.due):
            raise MtawError(f"a load needs a time for every request: {len(load.requests)} and {len(load.due)} differ")
        self._load = load
        # The epoll comes first: select needs a small descriptor.
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._idle: deque[_Connection] = deque()
        self._retries: deque[float] = deque()  # when to try refused connections again
        count = len(load.due)
        self._sent = np.full(count, np.nan)
        self._done = np.full(count, np.nan)
        self._status = np.zeros(count, np.int16)
        self._port = np.zeros(count, np.int32)
        self._kept: dict[int, bytes] = {}
        self._open = 0  # requests sent and not finished
        for _ in range(load.connections):
            self._connect()
        deadline = time.monotonic() + load.timeout
        while len(self._idle) < load.connections:
            if time.monotonic() > deadline:
                raise MtawError(f"{load.address[0]}:{load.address[1]} took no {load.connections} connections in time")
            self._wait(0.01)

    def run(self, began: float) -> Outcome:
        """Send everything, with the garbage collector off. began: time.monotonic() of due = 0."""
        load, due = self._load, (self._load.due + began).tolist()
        waiting: deque[int] = deque()
        in_flight: deque[tuple[int, _Connection]] = deque()  # in the order sent, with finished ones
        following, count = 0, len(due)
        gc.collect()
        gc.disable()
        cpu = time.process_time()
        while following < count or waiting or self._open:
            now = time.monotonic()
            while following < count and due[following] <= now:
                waiting.append(following)
                following += 1
            while waiting and self._idle:
                if self._replaced_if_closed(self._idle[0]):
                    continue
                number = waiting.popleft()
                in_flight.append((number, self._send(number)))
            self._expire(due, waiting, in_flight, now)
            # Timeouts and retries are checked this often; answers and due times are waited for exactly.
            pause = _RECONNECT if self._retries else 0.1
            if following < count:
                pause = min(pause, due[following] - time.monotonic())
            self._wait(max(pause, 0.0))
        cpu = time.process_time() - cpu
        gc.enable()
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._epoll.close()
        return Outcome(began, load.due, self._sent, self._done, self._status, self._port, self._kept, cpu)

    def _send(self, number: int) -> _Connection:
        connection = self._idle.popleft()
        connection.number = number
        self._open += 1
        data = self._load.requests[number]
        self._port[number] = connection.port
        self._sent[number] = time.monotonic()
        try:
            sent = connection.socket.send(data)
        except OSError:
            self._lost(connection)
            return connection
        if sent != len(data):
            raise MtawError(f"request {number} of {len(data)} bytes does not fit a socket's buffer; make it smaller")
        return connection

    def _replaced_if_closed(self, connection: _Connection) -> bool:
        """Return whether the server has closed an idle connection; if so, replace it."""
        try:
            connection.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        self._lost(connection)
        return True

    def _wait(self, seconds: float) -> None:
        """Wait until there is something to read, for up to `seconds`; then read everything."""
        while self._retries and self._retries[0] <= time.monotonic():
            self._retries.popleft()
            self._connect()
        # epoll's own timeout is in whole milliseconds.
        select.select([self._epoll.fileno()], [], [], seconds)
        for descriptor, _ in self._epoll.poll(0):
            connection = self._connections.get(descriptor)
            if connection is not None:
                self._read(connection)

    def _read(self, connection: _Connection) -> None:
        if not connection.connected:
            self._finish_connecting(connection)
            return
        try:
            data = connection.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or connection.number < 0:
            self._lost(connection)
            return
        if connection.buffer:
            data = connection.buffer + data
        head = data.find(b"\r\n\r\n")
        length = None if head < 0 else _LENGTH.search(data, 0, head)
        if head >= 0 and length is None:
            raise MtawError("an answer has no Content-Length; this client reads no other kind")
        if length is None or len(data) < head + 4 + int(length[1]):
            connection.buffer = data
            return
        number = connection.number
        self._done[number] = time.monotonic()
        self._status[number] = int(data[9:12])
        if number in self._load.kept:
            self._kept[number] = data
        self._open -= 1
        connection.number, connection.buffer = -1, b""
        if _CLOSE.search(data, 0, head + 2):
            self._lost(connection)
        else:
            self._idle.append(connection)

    def _connect(self) -> None:
        client = socket.socket()
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.connect_ex(self._load.address)  # the result is read once the socket is writable
        connection = _Connection(client)
        self._connections[client.fileno()] = connection
        self._epoll.register(client.fileno(), select.EPOLLOUT)

    def _finish_connecting(self, connection: _Connection) -> None:
        if connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._drop(connection)
            self._retries.append(time.monotonic() + _RECONNECT)
            return
        connection.connected = True
        connection.port = connection.socket.getsockname()[1]
        self._epoll.modify(connection.socket.fileno(), select.EPOLLIN)
        self._idle.append(connection)

    def _lost(self, connection: _Connection) -> None:
        """Fail the request on a connection that the server closed, and replace the connection."""
        self._fail(connection, RESET)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self._drop(connection)
        self._connect()

    def _fail(self, connection: _Connection, status: int) -> None:
        if connection.number >= 0:
            self._status[connection.number] = status
            self._done[connection.number] = time.monotonic()
            connection.number = -1
            self._open -= 1

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection.socket.fileno()]
        connection.socket.close()  # this also removes it from the epoll

    def _expire(
        self, due: list[float], waiting: deque[int], in_flight: deque[tuple[int, _Connection]], now: float
    ) -> None:
        """Fail the requests that are past their timeout."""
        limit = now - self._load.timeout
        while waiting and due[waiting[0]] < limit:
            number = waiting.popleft()
            self._status[number], self._done[number] = TIMED_OUT, now
        while in_flight:
            number, connection = in_flight[0]
            if connection.number == number:
                if due[number] >= limit:
                    return
                self._fail(connection, TIMED_OUT)
                self._lost(connection)
            in_flight.popleft()


class RunningLoad(AbstractContextManager["RunningLoad"]):
    """A load that runs in a process of its own: connected once this is entered; `result` waits for its end.

    began: time.monotonic() of due = 0, shortly after this is entered.
    """

    def __init__(self, load: Load) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, child_pipe = context.Pipe()
        self._process = context.Process(target=_drive, args=(child_pipe,), daemon=True)
        self._process.start()
        child_pipe.close()
        self._pipe.send(load)
        self.began: float = self._receive()

    def result(self) -> Outcome:
        """Return the load's outcome. Raises MtawError if the client failed."""
        return self._receive()

    def _receive(self) -> Any:
        try:
            received = self._pipe.recv()
        except EOFError:
            raise MtawError("the load's process ended early; its error is above") from None
        if isinstance(received, str):
            raise MtawError(f"the load failed: {received}")
        return received

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()


def _drive(pipe: Connection) -> None:
    try:
        load: Load = pipe.recv()
        client = Client(load)
        began = time.monotonic() + _HEAD_START
        pipe.send(began)
        pipe.send(client.run(began))
    except MtawError as error:
        pipe.send(str(error))
