"""A small HTTP client that sends on a schedule, whatever the server does: latency counts from when a request was due.

Requests are whole HTTP/1.1 messages as bytes, over a fixed number of kept connections. One that is due while every
connection is busy waits, and its wait is part of its latency (no coordinated omission). It runs in the caller's
process, so give it a core.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """What a run measured. seconds: float64[n], latency from the due time of each answered request. errors: requests
    answered with another status than 200, or not at all. elapsed: wall seconds of the whole run."""

    seconds: np.ndarray
    errors: int
    elapsed: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.elapsed

    def percentile(self, q: float) -> float:
        """In seconds; infinite where nothing was answered."""
        return float(np.percentile(self.seconds, q)) if len(self.seconds) else float("inf")


def http_request(path: str, body: bytes) -> bytes:
    """A POST as bytes."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def poisson(rate: float, seconds: float, seed: int = 0) -> np.ndarray:
    """float64[n]: due times of Poisson arrivals over `seconds`."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate, int(rate * seconds * 1.2) + 50))
    return times[times < seconds]


async def drive(port: int, requests: Sequence[bytes], due: np.ndarray, connections: int) -> Load:
    """Send request i mod len(requests) at due[i] (seconds from the start; all 0: as fast as the answers come)."""
    loop = asyncio.get_running_loop()
    run = _Run(requests, due)
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port)
    run.begin(loop)
    await run.finished
    return Load(np.array(run.seconds), run.errors, time.perf_counter() - run.started)


class _Run:
    """The schedule, and who is free."""

    def __init__(self, requests: Sequence[bytes], due: np.ndarray) -> None:
        self.requests, self.due = requests, due.tolist()
        self.next = 0
        self.idle: deque[_Connection] = deque()
        self.seconds: list[float] = []
        self.errors = 0
        self.started = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.finished = loop, loop.create_future()
        self.started = time.perf_counter()
        self._send_due()

    def _send_due(self) -> None:
        """Send what is due to idle connections, then wake up for the next."""
        now = time.perf_counter() - self.started
        while self.next < len(self.due) and self.due[self.next] <= now and self.idle:
            self.idle.popleft().send(self.requests[self.next % len(self.requests)], self.due[self.next])
            self.next += 1
        if self._timer is None and self.next < len(self.due) and self.due[self.next] > now:
            self._timer = self.loop.call_later(self.due[self.next] - now, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._send_due()

    def answered(self, connection: _Connection | None, due: float, ok: bool) -> None:
        """Note an answer, or none where `connection` was lost, and send on it what has been waiting."""
        if ok:
            self.seconds.append(time.perf_counter() - self.started - due)
        else:
            self.errors += 1
        if connection is not None:
            self.idle.append(connection)
            self._send_due()
        if len(self.seconds) + self.errors >= len(self.due) and not self.finished.done():
            self.finished.set_result(None)


class _Connection(asyncio.Protocol):
    """One kept connection with one request at a time."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._buffer = b""
        self._due: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._run.idle.append(self)

    def send(self, request: bytes, due: float) -> None:
        self._due, self._buffer = due, b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._due is None:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) >= end + 4 + length:
            due, self._due = self._due, None
            self._run.answered(self, due, self._buffer[9:12] == b"200")

    def connection_lost(self, _: Exception | None) -> None:
        if self._due is not None:
            self._run.answered(None, self._due, ok=False)
