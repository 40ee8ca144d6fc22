"""An open-loop HTTP/1.1 client on one thread: it sends each request at its time, however late the answers are.

Plain sockets, one epoll and bytes made beforehand: what the client costs is taken from the server that shares its
machine. asyncio's timers, rounded up to whole milliseconds, would be another part of what is measured; `select` on
the epoll waits to the microsecond.
"""

from __future__ import annotations

import contextlib
import gc
import re
import select
import socket
import time
from collections import deque
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

import numpy as np

from mtaw_fast.errors import MtawError

RESET, TIMED_OUT = -1, -2  # statuses of requests without an answer: connection lost, nothing in time
_RECONNECT = 0.02  # seconds until the next try after a connection was refused
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:\s*close", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Load:
    """What to send. requests: whole HTTP/1.1 requests. due: seconds from the start, one a request, ascending.

    kept: numbers of the requests whose answers are kept. connections: kept alive and used by turns; a request that
    finds none free waits for one, and its latency goes on counting. timeout: seconds after its due time at which a
    request has failed. nice: of the client's process; below 0 it comes before a service that shares its cores, as a
    client on another machine does, and needs the right to do so.
    """

    address: tuple[str, int]
    requests: Sequence[bytes]
    due: np.ndarray
    kept: Set[int] = frozenset()
    connections: int = 64
    timeout: float = 10.0
    nice: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of a load. Times in seconds on time.monotonic's clock, which all processes of a machine share.

    began: the time of due = 0. sent: float64[n], NaN where it never was. done: float64[n], when it was answered or had
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
        """Seconds from the time a request was due, whether or not it was sent then, to its whole answer: float64[n]."""
        return self.done - self.began - self.due

    @property
    def lateness(self) -> np.ndarray:
        """Seconds from due to sent, the client's own lateness and waits for a free connection: float64[n]."""
        return self.sent - self.began - self.due


class _Connection:
    """A socket, and the number of the request that is under way on it (-1: none)."""

    __slots__ = ("buffer", "connected", "number", "port", "socket")

    def __init__(self, made: socket.socket) -> None:
        self.socket = made
        self.number = -1
        self.port = 0
        self.connected = False
        self.buffer = b""


class Client:
    """Runs one Load. Connections are made when it is; `run` sends, reads and returns the outcome."""

    def __init__(self, load: Load) -> None:
        if len(load.requests) != len(load.due):
            raise MtawError(f"a load needs a time for every request: {len(load.requests)} and {len(load.due)} differ")
        self._load = load
        # The epoll comes first: select needs a small descriptor.
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._idle: deque[_Connection] = deque()
        self._retries: deque[float] = deque()  # when connections that were refused are to be tried again
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
        """Send everything; `began`: time.monotonic() of due = 0. The garbage collector rests meanwhile."""
        load, due = self._load, (self._load.due + began).tolist()
        waiting: deque[int] = deque()
        under_way: deque[tuple[int, _Connection]] = deque()  # in the order sent, finished ones among them
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
                if self._closed_meanwhile(self._idle[0]):
                    continue
                number = waiting.popleft()
                under_way.append((number, self._send(number)))
            self._expire(due, waiting, under_way, now)
            # Timeouts and retries are looked at this often; answers and due times are waited for exactly.
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
            gone = connection.socket.send(data)
        except OSError:
            self._lost(connection)
            return connection
        if gone != len(data):
            raise MtawError(f"request {number} of {len(data)} bytes does not fit a socket's buffer; make it smaller")
        return connection

    def _closed_meanwhile(self, connection: _Connection) -> bool:
        """Whether the server has closed an idle connection, unseen so far; another one then takes its place."""
        try:
            connection.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        self._lost(connection)
        return True

    def _wait(self, seconds: float) -> None:
        """Until something can be read, or for `seconds`; then read all there is."""
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
        made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.connect_ex(self._load.address)  # how it went is asked of the socket when it can be written to
        connection = _Connection(made)
        self._connections[made.fileno()] = connection
        self._epoll.register(made.fileno(), select.EPOLLOUT)

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
        """Closed by the server: what was under way has failed, and another connection takes this one's place."""
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
        connection.socket.close()  # which takes it out of the epoll

    def _expire(
        self, due: list[float], waiting: deque[int], under_way: deque[tuple[int, _Connection]], now: float
    ) -> None:
        """Fail what is past its time."""
        limit = now - self._load.timeout
        while waiting and due[waiting[0]] < limit:
            number = waiting.popleft()
            self._status[number], self._done[number] = TIMED_OUT, now
        while under_way:
            number, connection = under_way[0]
            if connection.number == number:
                if due[number] >= limit:
                    return
                self._fail(connection, TIMED_OUT)
                self._lost(connection)
            under_way.popleft()
