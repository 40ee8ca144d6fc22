"""Accepting connections in several workers at once, so that each gets its share of them.

Workers that share a listener race for new connections, and the event loops take all that are waiting: of 64 made at
once, one worker got 64 and the other none. A kept connection stays where it is, and so would the imbalance.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection

from mtaw_fast.service.observability.counters import CONNECTIONS, Counters

_SLACK = 2  # connections that a worker may have above the least of the others before it gives way
_WAY, _LONGEST_WAY = 0.002, 0.02  # seconds that it leaves a new connection to the others: for each one above, at most
_FULL = 0.02  # seconds until the next try where every connection is being answered
_NO_DESCRIPTORS = 0.5  # seconds until the next try where no file may be opened, and none can be spared


class Acceptor:
    """Takes connections from a listener for one worker, one a turn of its event loop.

    A worker that has more than its share leaves a connection to the others for a moment, and takes it where nobody did.
    open_connections: all of the worker's. counters: where the workers tell each other how many they have. most:
    connections that it may have. make_room: closes one that can be spared; whether there was one.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        open_connections: Collection[object],
        counters: Counters,
        most: int,
        make_room: Callable[[], bool],
    ) -> None:
        self._listener, self._make_protocol = listener, make_protocol
        self._connections, self._counters = open_connections, counters
        self._most, self._make_room = most, make_room
        self._loop = asyncio.get_running_loop()
        self._resuming: asyncio.TimerHandle | None = None
        self._gave_way = False
        self._closed = False
        self._tasks: set[asyncio.Task[object]] = set()
        self._coming: set[asyncio.Protocol] = set()
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._accept)

    def tell(self) -> None:
        """Let the other workers know how many connections this one has."""
        self._counters.own[CONNECTIONS] = self._count()

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
        if self._count() >= self._most and not self._make_room():
            self._pause(_FULL)
            return
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker was quicker, or the client has gone
        except OSError:  # the process, or the machine, may open no more files
            self._pause(_FULL if self._make_room() else _NO_DESCRIPTORS)
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._connect(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: socket.socket) -> None:
        protocol = self._make_protocol()
        self._coming.add(protocol)
        try:
            with contextlib.suppress(OSError):  # it was gone at once
                await self._loop.connect_accepted_socket(lambda: protocol, connection)
        finally:
            self._coming.discard(protocol)

    def _count(self) -> int:
        return len(self._connections) + sum(one not in self._connections for one in self._coming)

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
