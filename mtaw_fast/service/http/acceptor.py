"""Accepting connections in several workers, so that each gets its share of them.

Workers that share a listener race for new connections, and an event loop accepts all that wait: of 64 connections made
at once, one worker got 64 and the other none. Kept connections stay with their worker, and so would the imbalance.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection

from mtaw_fast.service.observability.counters import CONNECTIONS, Counters

_SLACK = 2  # connections that a worker may have above the smallest number of another before it yields
_YIELD, _LONGEST_YIELD = 0.002, 0.02  # seconds that it leaves to the others for each connection above; at most
_FULL = 0.02  # seconds until the next try while the service works on a request of every connection
_UNREAD = 256 << 10  # bytes of answers that the kernel holds until the client reads them; it may take 4 MiB otherwise
_NO_DESCRIPTORS = 0.5  # seconds until the next try at the file limit, if no connection can be closed


class Acceptor:
    """Accepts connections for one worker, one for each turn of its event loop.

    A worker with more than its share leaves a new connection to the others for a moment, and then accepts it if no
    other did.

    Parameters
    ----------
    listener : socket
        Shared by all workers; its owner closes it.
    make_protocol : callable
        Returns the protocol of a new connection.
    open_connections : collection
        The worker's connections.
    counters : Counters
        Where workers share how many connections they have.
    max_connections : int
        Connections that the worker may have open.
    make_room : callable
        Closes the connection without progress for longest; returns whether there was one. It gets the loop's time.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        open_connections: Collection[object],
        counters: Counters,
        max_connections: int,
        make_room: Callable[[float], bool],
    ) -> None:
        self._listener, self._make_protocol = listener, make_protocol
        self._connections, self._counters = open_connections, counters
        self._max_connections, self._make_room = max_connections, make_room
        self._loop = asyncio.get_running_loop()
        self._resuming: asyncio.TimerHandle | None = None
        self._yielded = False
        self._closed = False
        self._tasks: set[asyncio.Task[object]] = set()
        self._opening: set[asyncio.Protocol] = set()
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._accept)

    def publish_count(self) -> None:
        """Share with the other workers how many connections this one has."""
        self._counters.own[CONNECTIONS] = self._count()

    def close(self) -> None:
        """Accept no more connections."""
        if not self._closed:
            self._closed = True
            self._pause(None)

    def _accept(self) -> None:
        self.publish_count()
        excess = self._above_share()
        if excess > 0 and not self._yielded:
            self._yielded = True
            self._pause(min(_YIELD * excess, _LONGEST_YIELD))
            return
        self._yielded = False
        if self._count() >= self._max_connections and not self._make_room(self._loop.time()):
            self._pause(_FULL)
            return
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker accepted it, or the client has gone
        except OSError:  # the file limit of the process, or of the system
            self._pause(_FULL if self._make_room(self._loop.time()) else _NO_DESCRIPTORS)
            return
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # not a TCP connection, or the client has gone
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNREAD)
        task = self._loop.create_task(self._connect(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: socket.socket) -> None:
        protocol = self._make_protocol()
        self._opening.add(protocol)
        try:
            with contextlib.suppress(OSError):  # the client has gone
                await self._loop.connect_accepted_socket(lambda: protocol, connection)
        finally:
            self._opening.discard(protocol)

    def _count(self) -> int:
        return len(self._connections) + sum(protocol not in self._connections for protocol in self._opening)

    def _above_share(self) -> int:
        own_connections = self._counters.own[CONNECTIONS]
        return own_connections - min(self._counters.others_connections(), default=own_connections) - _SLACK

    def _pause(self, seconds: float | None) -> None:
        self._loop.remove_reader(self._listener.fileno())
        if self._resuming is not None:
            self._resuming.cancel()
        self._resuming = None if seconds is None else self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._resuming = None
        self._loop.add_reader(self._listener.fileno(), self._accept)
