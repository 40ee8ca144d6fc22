"""Connections that do not wait for ever: a client has so long for its headers, its body, and to read the answer."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD = 32 << 10  # bytes of a request line and its headers
_GRACE = 1.0  # seconds past the app's own timeout of a body, in which it answers 408


class TimedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with what it lacks: limits on the time and size of headers and on unread answers.

    `expire` is called now and then for every connection; nothing is scheduled for each request.
    """

    read_timeout = 10.0  # seconds; set once for all connections of a worker

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading_until: float | None = None  # something must have come by then
        self._writing_until: float | None = None  # something must have been taken by then
        self._head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request must come."""
        super().connection_made(transport)
        self._reading_until = self.loop.time() + self.read_timeout

    def data_received(self, data: bytes) -> None:
        """Feed the parser; give up on headers without end."""
        super().data_received(data)
        if self._head:
            self._head += len(data)
            if self._head > _HEAD and not self.transport.is_closing():
                self.send_400_response("The headers are too large.")

    def on_message_begin(self) -> None:
        """The first byte of a request: its headers must follow."""
        super().on_message_begin()
        self._head = 1
        self._reading_until = self.loop.time() + self.read_timeout

    def on_headers_complete(self) -> None:
        """The body must follow."""
        self._head = 0
        self._reading_until = self.loop.time() + self.read_timeout + _GRACE
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole: now it is our turn."""
        self._reading_until = None
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client has to read before we may write on."""
        super().pause_writing()
        self._writing_until = self.loop.time() + self.read_timeout

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self._writing_until = None

    def expire(self, now: float) -> None:
        """Drop the connection if its client has let a time pass."""
        if min(self._reading_until or now, self._writing_until or now) < now:
            if self.cycle is not None:
                self.cycle.disconnected = True  # now, and not when the loop gets to tell: an answer may be under way
            self.transport.abort()
