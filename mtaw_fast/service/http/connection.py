"""Connections that do not wait for ever, nor hold without end: limits on a client's time and on what it sends ahead."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Sized
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mtaw_fast.service.http.request_cycle import RequestCycle

_HEAD = 32 << 10  # bytes of a request line and its headers
_UNFRAMED = 8 << 10  # bytes of a chunked body that are none of its content: a size line, or the trailers
_GRACE = 1.0  # seconds past the time of a body, in which the app answers 408
_KEPT = 75.0  # seconds that a connection may wait for its next request


class OpenConnections:
    """A worker's connections, by whom they wait for.

    idle: those without a request, the one idle for longest first. sending: those whose client has begun a request and
    not ended it, the earliest first. stopping: whether every answer from now on is the last of its connection.
    """

    def __init__(self) -> None:
        self.idle: OrderedDict[TimedProtocol, None] = OrderedDict()
        self.sending: OrderedDict[TimedProtocol, None] = OrderedDict()
        self.stopping = False

    def make_room(self) -> bool:
        """Close the connection that can be spared most; whether there was one: those being answered cannot."""
        for waiting in (self.idle, self.sending):
            if waiting:
                connection, _ = waiting.popitem(last=False)
                connection.give_up()
                return True
        return False

    def forget(self, connection: TimedProtocol) -> None:
        """Note that a connection is gone."""
        self.idle.pop(connection, None)
        self.sending.pop(connection, None)


class TimedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with what it lacks: limits on the time and size of headers, on what surrounds the chunks of a
    body and on unread answers, and an end to what is read of a client that sends requests faster than it is answered.

    Trailers are dropped: as headers they would be believed. An upgrade is not made, and its request is answered as
    any other (RFC 9110, 7.8); uvicorn's own takes the body for the next request.

    `expire` is called now and then for every connection; nothing is scheduled for each request.
    """

    cycle: RequestCycle
    read_timeout = 10.0  # seconds; set once for all connections of a worker
    open_connections = OpenConnections()  # likewise

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading_until: float | None = None  # something must have come by then
        self._writing_until: float | None = None  # something must have been taken by then
        self._idle_since = 0.0
        self._in_message = self._in_head = False
        self._upgrading = False  # the parser has taken the head for the end of HTTP on this connection
        self._ended = False  # nothing more is sent to the client
        self._begun = 0  # requests that began in the bytes that are being fed
        self._head = 0  # bytes of headers that are not complete, as far as they are known to be its own
        self._framed = False  # whether some of the bytes that are being fed are content, or begin a chunk
        self._unframed = 0  # bytes since the last that were
        self._unanswered: deque[RequestCycle] = deque()  # requests, oldest first; `cycle` is the newest

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request must come."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._reading_until = self.loop.time() + self.read_timeout
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """No answer reaches the client any more; uvicorn itself tells only the newest request."""
        self.open_connections.forget(self)
        self._disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; give up on headers, chunk sizes and trailers without end."""
        if self._ended:
            return
        alone = not self._in_message
        self._begun = 0
        self._framed = False
        self._feed(data)
        if self._in_head:
            if not self._begun:
                self._head += len(data)
            elif alone and self._begun == 1:  # else most of these bytes may be of the requests before
                self._head = len(data)
            if self._head > _HEAD:
                self.send_400_response("The headers are too large.")
        elif self._in_message and not self._framed:
            self._unframed += len(data)
            if self._unframed > _UNFRAMED:
                self.send_400_response("The trailers or the size of a chunk are too long.")

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        """The request line and headers that were just parsed, for a new parser that goes on behind them."""
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        fields = [b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self._upgrading = False
        return b"".join((line, *fields, b"\r\n"))

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless an answer is under way that this one would run into; close."""
        if self.transport.is_closing():
            return
        if any(cycle.response_started for cycle in self._unanswered):
            self.transport.close()
        else:
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """The first byte of a request: its headers must follow."""
        super().on_message_begin()
        self._in_message = self._in_head = True
        self._begun += 1
        self._head = 0
        self._reading_until = self.loop.time() + self.read_timeout
        self.open_connections.idle.pop(self, None)
        if self.cycle is None or self.cycle.response_complete:  # else we owe it an answer
            self.open_connections.sending[self] = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer, which is dropped."""
        if self._in_head:
            super().on_header(name, value)
            return
        self._unframed += len(name) + len(value)
        if self._unframed > _UNFRAMED:
            raise ValueError("too many trailers")  # the parser ends with an error

    def on_headers_complete(self) -> None:
        """The body must follow."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("no tunnels")  # the parser ends with an error
            self._upgrading = True
            return
        self._in_head = False
        self._unframed = 0
        self._reading_until = self.loop.time() + self.read_timeout
        before, self.cycle = self.cycle, self._cycle()
        while self._unanswered and self._unanswered[0].response_complete:
            self._unanswered.popleft()
        self._unanswered.append(self.cycle)
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _cycle(self) -> RequestCycle:
        """The request whose head has come, as the app is given it; uvicorn's own in what it does."""
        version, url = self.parser.get_http_version(), httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope = self.scope
        scope["method"], scope["http_version"] = self.parser.get_method().decode("ascii"), version
        scope["path"], scope["raw_path"] = unquote(path) if "%" in path else path, url.path
        scope["query_string"] = url.query or b""
        return RequestCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive() and not self.open_connections.stopping,
            on_response=self.on_response_complete,
        )

    def on_chunk_header(self) -> None:
        """A chunk begins, or the trailers do."""
        self._framed = True
        self._unframed = 0

    def on_body(self, body: bytes) -> None:
        """Content."""
        self._framed = True
        self._unframed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole: now it is our turn."""
        if self._upgrading:
            return
        self._reading_until = None
        self._in_message = False
        self.open_connections.sending.pop(self, None)
        super().on_message_complete()
        if self.cycle.response_complete:  # before all of it had come
            self._rest()

    def on_response_complete(self) -> None:
        """Go on with the next request that has come, or wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif not self._in_message:
            self._rest()

    def _rest(self) -> None:
        self._idle_since = self.loop.time()
        self.open_connections.idle[self] = None

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
        late = self._reading_until is not None and self._reading_until < now
        if late and self._in_message and not self._in_head and not self.cycle.timed_out:
            self._reading_until = now + _GRACE
            self.cycle.time_out()
        elif late or (self._writing_until is not None and self._writing_until < now):
            self._disconnect()  # now, and not when the loop gets to tell: an answer may be under way
            self.transport.abort()
        elif self in self.open_connections.idle and now - self._idle_since > _KEPT:
            self.transport.close()

    def give_up(self) -> None:
        """Close a connection that waits for its client."""
        if self._in_message:
            self._disconnect()
            self.transport.abort()
        else:
            self.transport.close()

    def end(self) -> None:
        """Tell the client of an idle connection that no answer comes on it any more, and let it close.

        To close at once would answer what it may be sending with a reset.
        """
        if not self._ended and not self.transport.is_closing():
            self._ended = True
            with contextlib.suppress(OSError, RuntimeError):  # it has gone meanwhile
                self.transport.write_eof()

    def shutdown(self) -> None:
        """Let the answer that is under way be the last one; an idle connection is the server's to end."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

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
