"""Accepting connections in several workers at once, so that each gets its share of them.

Workers that share a listener race for new connections, and the event loops take all that are waiting: of 64 made at
once, one worker got 64 and the other none. A kept connection stays where it is, and so would the imbalance.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sized

from mtaw_fast.service.counters import CONNECTIONS, Counters

_SLACK = 2  # connections that a worker may have above the least of the others before it gives way
_WAY, _LONGEST_WAY = 0.002, 0.02  # seconds that it leaves a new connection to the others: for each one above, at most
_NO_DESCRIPTORS = 0.5  # seconds until the next try where the process may open no more files


class Acceptor:
    """Takes connections from a listener for one worker, one a turn of its event loop.

    A worker that has more than its share leaves a connection to the others for a moment, and takes it where nobody did.
    open_connections: all of the worker's. counters: where the workers tell each other how many they have.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        open_connections: Sized,
        counters: Counters,
    ) -> None:
        self._listener, self._make_protocol = listener, make_protocol
        self._connections, self._counters = open_connections, counters
        self._loop = asyncio.get_running_loop()
        self._resuming: asyncio.TimerHandle | None = None
        self._gave_way = False
        self._closed = False
        self._made: set[asyncio.Task[object]] = set()
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._accept)

    def tell(self) -> None:
        """Let the other workers know how many connections this one has."""
        self._counters.own[CONNECTIONS] = len(self._connections) + len(self._made)

    def close(self) -> None:
        """Accept no more; the listener itself is its owner's."""
        if not self._closed:
            self._closed = True
            self._pause(None)

    def _accept(self) -> None:
        self.tell()
        above = self._above_its_share()
        if above > 0 and not self._gave_way:
            self._gave_way = True
            self._pause(min(_WAY * above, _LONGEST_WAY))
            return
        self._gave_way = False
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker was quicker, or the client has gone
        except OSError:
            self._pause(_NO_DESCRIPTORS)
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._connect(connection))
        self._made.add(task)
        task.add_done_callback(self._made.discard)

    async def _connect(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it was gone at once
            await self._loop.connect_accepted_socket(self._make_protocol, connection)

    def _above_its_share(self) -> int:
        own = self._counters.own[CONNECTIONS]
        return own - min(self._counters.others_connections(), default=own) - _SLACK

    def _pause(self, seconds: float | None) -> None:
        self._loop.remove_reader(self._listener.fileno())
        if self._resuming is not None:
            self._resuming.cancel()
        self._resuming = None if seconds is None else self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._resuming = None
        self._loop.add_reader(self._listener.fileno(), self._accept)
