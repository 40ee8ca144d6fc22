"""A connection with limits: on the time that its client takes, and on the memory that it makes the service hold."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sized
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mtaw_fast.service.http.open_connections import OpenConnections
from mtaw_fast.service.http.request_cycle import RequestCycle

_HEAD = 32 << 10  # bytes of a request line and its headers
_UNFRAMED = 8 << 10  # bytes of a chunked body that are not content: a size line, or the trailers
_GRACE = 1.0  # seconds for the app to answer 408, after a body timed out
_IDLE_SECONDS = 75.0  # that a connection may wait for its next request
_KNOWN_TARGETS = 64  # request targets of which the parts are kept: most requests name one of few


class _NotImplementedHereError(ValueError):
    pass


class TimedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with more limits: on the time and size of headers, on chunk sizes and trailers, on unread
    responses, and on requests that a client sends before it is answered.

    While a part of a response waits for the client to read, nothing more is read and no further request is begun.

    Trailers are dropped: they must not count as headers. Upgrades are not made, and their requests are answered as
    any other (RFC 9110, 7.8); uvicorn would take the body for the next request.

    The server calls `expire` now and then for every connection, so that no request schedules a timer.
    """

    cycle: RequestCycle
    read_timeout = 10.0  # seconds; set once for all connections of a worker
    open_connections = OpenConnections()  # set once, too

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading_until: float | None = None  # the client must have sent something by then
        self._writing_until: float | None = None  # the client must have read something by then
        self.since = 0.0  # when the connection made its last progress, see `_settle`
        self._working = False  # whether the service works on a request
        self._half = False  # whether a part of a request is here, and no whole one is in work
        self._gone = False  # whether the connection is closed, or is being closed for a new one
        self._in_message = self._in_head = False
        self._upgrading = False  # the parser takes the head for the end of HTTP on this connection
        self._ended = False  # the client gets nothing more
        self._begun = 0  # requests that began in the bytes being parsed
        self._head = 0  # bytes of incomplete headers, as far as they are known
        self._framed = False  # whether the bytes being parsed contain content, or begin a chunk
        self._unframed = 0  # bytes since the last content or chunk
        self._hosts = 0  # Host fields of the headers
        self._coding = b""  # the transfer codings of the body
        self._unanswered: deque[RequestCycle] = deque()  # requests, oldest first; `cycle` is the newest

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline, self.loop.time, self._wait_longer)
        transport.set_write_buffer_limits(high=0)  # `pause_writing` comes as soon as the kernel takes no more
        self._reading_until = self.loop.time() + self.read_timeout
        self._settle(progress=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Mark all unanswered requests as disconnected; uvicorn itself marks only the newest one."""
        self._gone = True
        self.open_connections.forget(self)
        self._disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data; refuse endless headers, chunk sizes and trailers."""
        if self._ended:
            return
        outside_message = not self._in_message
        self._begun = 0
        self._framed = False
        self._feed(data)
        if self._in_head:
            if not self._begun:
                self._head += len(data)
            elif outside_message and self._begun == 1:  # otherwise most of the bytes may belong to earlier requests
                self._head = len(data)
            if self._head > _HEAD:
                self.send_400_response("The headers are too large.")
        elif self._in_message and not self._framed:
            self._unframed += len(data)
            if self._unframed > _UNFRAMED:
                self.send_400_response("The trailers or the size of a chunk are too long.")
        self._settle(progress=self._begun > 0)

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                reason = error.__context__
                if isinstance(reason, _NotImplementedHereError):
                    self._refuse(501, str(reason))
                else:
                    self.send_400_response("Invalid HTTP request received.")
                return
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        """Return the head that was just parsed, without the upgrade, for a new parser that continues after it."""
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        fields = [b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as in uvicorn
        self._upgrading = False
        return b"".join((line, *fields, b"\r\n"))

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP, unless that would mix with a response being sent; close the connection."""
        self._refuse(400, msg)

    def _refuse(self, status: int, message: str) -> None:
        if self.transport.is_closing():
            return
        if not any(cycle.response_started for cycle in self._unanswered):
            content = [STATUS_LINE[status]]
            content += [b"%b: %b\r\n" % field for field in self.server_state.default_headers]
            content.append(
                b"content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(message), message.encode("ascii"))
            )
            self.transport.write(b"".join(content))
        self.transport.close()

    def on_message_begin(self) -> None:
        """Begin a request; wait for its headers."""
        super().on_message_begin()
        self._in_message = self._in_head = True
        self._hosts, self._coding = 0, b""
        self._begun += 1
        self._head = 0
        self._reading_until = self.loop.time() + self.read_timeout

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; drop a trailer."""
        if self._in_head:
            name = name.lower()
            if name == b"host":
                self._hosts += 1
            elif name == b"transfer-encoding":
                self._coding += b"," + value if self._coding else value
            elif name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))
            return
        self._unframed += len(name) + len(value)
        if self._unframed > _UNFRAMED:
            raise ValueError("too many trailers")  # makes the parser fail

    def on_headers_complete(self) -> None:
        """Start or queue the request; wait for its body."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("no tunnels")  # makes the parser fail
            self._upgrading = True
            return
        version = self.parser.get_http_version()
        self._check_head(version)
        self._in_head = False
        self._unframed = 0
        self._reading_until = self.loop.time() + self.read_timeout
        previous, self.cycle = self.cycle, self._cycle(version)
        self._unanswered.append(self.cycle)
        if (previous is None or previous.response_complete) and not self.flow.write_paused:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Begin a request in the loop's next turn, when everything that has arrived is read."""
        self.loop.call_soon(self._begin, cycle, app)

    def _begin(self, cycle: RequestCycle, app: Any) -> None:
        at_once = getattr(app, "answer_at_once", None)
        if at_once is None or not at_once(cycle):
            super()._start_asgi_task(cycle, app)

    def _check_head(self, version: str) -> None:
        """Make the parser fail on a head whose request a proxy may understand in another way (RFC 9112)."""
        if version not in ("1.1", "1.0"):
            raise ValueError("not HTTP/1.1")
        if self._hosts > 1 or (not self._hosts and version == "1.1"):
            raise ValueError("not one Host")
        if self._coding:
            if version == "1.0":
                raise ValueError("HTTP/1.0 has no transfer codings")
            if self._coding.strip().lower() != b"chunked":
                raise _NotImplementedHereError("The only transfer coding here is chunked.")

    def _cycle(self, version: str) -> RequestCycle:
        """Return the cycle of the request whose head was parsed; the same as uvicorn's."""
        scope = self.scope
        scope["method"], scope["http_version"] = self.parser.get_method().decode("ascii"), version
        scope["path"], scope["raw_path"], scope["query_string"] = _parts(self.url)
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
        """Note that a chunk or the trailers begin."""
        self._framed = True
        self._unframed = 0

    def on_body(self, body: bytes) -> None:
        """Take content of the body."""
        self._framed = True
        self._unframed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        if self._upgrading:
            return
        self._reading_until = None
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the next queued request, or wait for one."""
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self._start_next()
        self._settle()

    def _start_next(self) -> None:
        """Read on; start the next queued request, unless one is in work or the client has an answer to read."""
        self.flow.resume_reading()
        if self.pipeline and self._current() is self.pipeline[-1][0] and not self.flow.write_paused:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def _current(self) -> RequestCycle | None:
        """Return the oldest request without a complete response."""
        while self._unanswered and self._unanswered[0].response_complete:
            self._unanswered.popleft()
        return self._unanswered[0] if self._unanswered else None

    @property
    def is_idle(self) -> bool:
        """Whether there is neither a part of a request nor a request without an answer."""
        return not self._in_message and not self._unanswered

    def _settle(self, progress: bool = False) -> None:
        """Put the connection into the list that it belongs to, after something has happened.

        It makes progress when its client begins a request, and when the turn passes between the service and the client.
        """
        if self._gone:
            return
        cycle = self._current()
        working = cycle is not None and not cycle.more_body and not self.flow.write_paused
        half = not working and self._in_message
        if working != self._working or half != self._half or (progress and not working):
            self._working, self._half = working, half
            self.since = self.loop.time()
            self.open_connections.place(self, working, half)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self.flow.pause_reading()
        self._writing_until = self.loop.time() + self.read_timeout
        self._settle()
        if not self._gone:
            self.open_connections.hold_unread(self, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Note that the client has read."""
        super().resume_writing()
        self._writing_until = None
        self.open_connections.release_unread(self)
        if not self.transport.is_closing():
            self._start_next()
        self._settle(progress=True)

    def expire(self, now: float) -> None:
        """Close the connection if its client is past a time limit."""
        # While reading is paused, the service is slow, not the client.
        late = self._reading_until is not None and self._reading_until < now and not self.flow.read_paused
        if late and self._in_message and not self._in_head and not self.cycle.timed_out:
            self._reading_until = now + _GRACE
            self.cycle.time_out()
        elif late or (self._writing_until is not None and self._writing_until < now):
            self._disconnect()  # at once, because a response may be in progress
            self.transport.abort()
        elif self.is_idle and now - self.since > self.read_timeout and self._unread():
            self.transport.abort()
        elif self.is_idle and now - self.since > _IDLE_SECONDS:
            self.transport.close()

    def _wait_longer(self, paused: float) -> None:
        """Give the client back the seconds in which nothing was read."""
        if self._reading_until is not None:
            self._reading_until += paused

    def drop(self) -> None:
        """Close this connection at once, whatever it does."""
        self._gone = True
        self.open_connections.forget(self)
        self._disconnect()
        if not self.is_idle or self._unread():
            self.transport.abort()
        else:
            self.transport.close()

    def _unread(self) -> bool:
        """Return whether a part of an answer waits for the client to read."""
        return self.transport.get_write_buffer_size() > 0

    def end(self) -> None:
        """Half-close an idle connection, so that its client closes it.

        Closing it at once would answer a request that is being sent with a reset.
        """
        if not self._ended and not self.transport.is_closing():
            self._ended = True
            with contextlib.suppress(OSError, RuntimeError):  # the client has gone
                self.transport.write_eof()

    def shutdown(self) -> None:
        """Make the response in progress the last one; the server ends idle connections."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def _disconnect(self) -> None:
        for cycle in self._unanswered:
            cycle.disconnected = True


@lru_cache(_KNOWN_TARGETS)
def _parts(target: bytes) -> tuple[str, bytes, bytes]:
    """Return a request target's path, its raw path and its query."""
    url = httptools.parse_url(target)
    path = url.path.decode("ascii")
    return unquote(path) if "%" in path else path, url.path, url.query or b""


class _Flow(FlowControl):
    """uvicorn's flow control, but reading stays paused while requests are queued or answers are not read.

    uvicorn itself resumes reading after every response, and each time reads more requests than it answers.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        pipeline: Sized,
        clock: Callable[[], float],
        on_resume: Callable[[float], None],
    ) -> None:
        """on_resume: called with the seconds of the pause."""
        super().__init__(transport)
        self._pipeline, self._clock, self._on_resume = pipeline, clock, on_resume
        self._paused_at = 0.0

    def pause_reading(self) -> None:
        """Stop reading from the connection."""
        if not self.read_paused:
            self._paused_at = self._clock()
        super().pause_reading()

    def resume_reading(self) -> None:
        """Resume reading unless requests are queued, or an answer is not read."""
        if not self._pipeline and not self.write_paused:
            if self.read_paused:
                self._on_resume(self._clock() - self._paused_at)
            super().resume_reading()
