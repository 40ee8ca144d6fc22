"""The connections of a worker, and which of them it closes for new ones."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Protocol

_WAIT_SECONDS = 0.1  # without progress until a connection can be closed for a new one: many that reconnect spare others
_WORK_SECONDS = 1.0  # of work until it can be closed
_UNREAD = 64 << 20  # bytes of answers in a worker that wait for their clients to read


class Connection(Protocol):
    """What is asked of a connection. since: when it made its last progress."""

    since: float
    transport: Any

    @property
    def is_idle(self) -> bool:
        """Whether there is neither a part of a request nor a request without an answer."""
        ...

    def end(self) -> None:
        """Half-close an idle connection, so that its client closes it."""
        ...

    def drop(self) -> None:
        """Close it at once, whatever it does."""
        ...


class OpenConnections:
    """A worker's connections, in lists that begin with the longest without progress.

    waiting: those that wait for their client. It is idle, sends a request, or does not read its answer. working: those
    whose request the service works on. half: of the waiting ones, those with a part of a request. A client that has
    just connected is not among them: what it sends may be on its way. unread: the bytes that each client has not read,
    longest unread first. stopping: whether each response from now on is the last one of its connection.

    Parameters
    ----------
    deadline : float
        Seconds that a request may take before its connection can be closed for a new one; at least 1.
    """

    def __init__(self, deadline: float = _WORK_SECONDS) -> None:
        self.waiting: OrderedDict[Connection, None] = OrderedDict()
        self.working: OrderedDict[Connection, None] = OrderedDict()
        self.half: OrderedDict[Connection, None] = OrderedDict()
        self.unread: OrderedDict[Connection, int] = OrderedDict()
        self._unread_bytes = 0
        self.stopping = False
        self._work_seconds = max(_WORK_SECONDS, deadline)

    @property
    def idle(self) -> list[Connection]:
        """The connections without a request and without an answer in work."""
        return [connection for connection in self.waiting if connection.is_idle]

    def place(self, connection: Connection, working: bool, half: bool) -> None:
        """Put a connection that has made progress at the end of its lists."""
        self.waiting.pop(connection, None)
        self.working.pop(connection, None)
        self.half.pop(connection, None)
        (self.working if working else self.waiting)[connection] = None
        if half:
            self.half[connection] = None

    def make_room(self, now: float) -> bool:
        """Close the connection that has waited for its client for longest; return whether one was closed.

        If none has waited for long enough, close the first with a part of a request, or else the one with the longest
        work, unless that began within the deadline.
        """
        places = (self.waiting, _WAIT_SECONDS), (self.half, 0.0), (self.working, self._work_seconds)
        for connections, seconds in places:
            connection = next(iter(connections), None)
            if connection is not None and now - connection.since >= seconds:
                connection.drop()
                return True
        return False

    def hold_unread(self, connection: Connection, size: int) -> None:
        """Count bytes that a client has not read; close those that do not read for longest if they are too many."""
        self._unread_bytes += size - self.unread.pop(connection, 0)
        self.unread[connection] = size
        while self._unread_bytes > _UNREAD and len(self.unread) > 1:
            next(iter(self.unread)).drop()

    def release_unread(self, connection: Connection) -> None:
        """Note that a client has read its answers."""
        self._unread_bytes -= self.unread.pop(connection, 0)

    def forget(self, connection: Connection) -> None:
        """Remove a closed connection."""
        self.waiting.pop(connection, None)
        self.working.pop(connection, None)
        self.half.pop(connection, None)
        self.release_unread(connection)
