"""Connections that do not wait for ever, nor hold without end: limits on a client's time and on what it sends ahead."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sized
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_HEAD = 32 << 10  # bytes of a request line and its headers
_GRACE = 1.0  # seconds past the app's own timeout of a body, in which it answers 408


class TimedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with what it lacks: limits on the time and size of headers and on unread answers, and an end
    to what is read of a client that sends requests faster than it is answered.

    `expire` is called now and then for every connection; nothing is scheduled for each request.
    """

    read_timeout = 10.0  # seconds; set once for all connections of a worker

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading_until: float | None = None  # something must have come by then
        self._writing_until: float | None = None  # something must have been taken by then
        self._in_message = self._in_head = False
        self._begun = 0  # requests that began in the bytes that are being fed
        self._head = 0  # bytes of headers that are not complete, as far as they are known to be its own
        self._unanswered: deque[RequestResponseCycle] = deque()  # requests, oldest first; `cycle` is the newest

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request must come."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._reading_until = self.loop.time() + self.read_timeout

    def connection_lost(self, exc: Exception | None) -> None:
        """No answer reaches the client any more; uvicorn itself tells only the newest request."""
        self._disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; give up on headers without end."""
        alone = not self._in_message
        self._begun = 0
        super().data_received(data)
        if not self._in_head:
            return
        if not self._begun:
            self._head += len(data)
        elif alone and self._begun == 1:  # else most of these bytes may be of the requests before
            self._head = len(data)
        if self._head > _HEAD and not self.transport.is_closing():
            self.send_400_response("The headers are too large.")

    def on_message_begin(self) -> None:
        """The first byte of a request: its headers must follow."""
        super().on_message_begin()
        self._in_message = self._in_head = True
        self._begun += 1
        self._head = 0
        self._reading_until = self.loop.time() + self.read_timeout

    def on_headers_complete(self) -> None:
        """The body must follow."""
        self._in_head = False
        self._reading_until = self.loop.time() + self.read_timeout + _GRACE
        super().on_headers_complete()
        while self._unanswered and self._unanswered[0].response_complete:
            self._unanswered.popleft()
        self._unanswered.append(self.cycle)

    def on_message_complete(self) -> None:
        """The request is whole: now it is our turn."""
        self._reading_until = None
        self._in_message = False
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
        if self.pipeline and self._reading_until is not None:
            self._reading_until = now + self.read_timeout  # nothing is read meanwhile: it is we who are slow
        if min(self._reading_until or now, self._writing_until or now) < now:
            self._disconnect()  # now, and not when the loop gets to tell: an answer may be under way
            self.transport.abort()

    def _disconnect(self) -> None:
        for cycle in self._unanswered:
            cycle.disconnected = True


class _Flow(FlowControl):
    """uvicorn's flow control, which does not read on while requests wait for the answers to those before them.

    uvicorn's own reads on after every answer, and each time takes in more requests than that.
    """

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        """Read on where no request waits."""
        if not self._pipeline:
            super().resume_reading()
