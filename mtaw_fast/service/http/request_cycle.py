"""One request and its response on a connection, written in as few system calls as possible."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

TIMED_OUT = "mtaw_timed_out"  # key of an http.disconnect message: the client is connected, but too slow


class RequestCycle(RequestResponseCycle):
    """uvicorn's cycle, except that a response of one piece takes one write: one system call, one packet, one wake-up.

    It does not search headers for bad bytes, since they are the service's own.
    """

    _head: bytes | None = None  # the head of a response that has started, until it is written with the body
    _default_head: tuple[Any, bytes] = None, b""  # the server's headers, which change every second, and their bytes
    timed_out = False  # whether the body took too long

    def time_out(self) -> None:
        """Tell the reader of the body that it did not arrive in time."""
        self.timed_out = True
        self.message_event.set()

    def whole_body(self, max_bytes: int) -> bytes | None:
        """Return the body if all of it is here, at most `max_bytes` bytes; None leaves it to `receive`."""
        if self.more_body or self.disconnected or self.waiting_for_100_continue or len(self.body) > max_bytes:
            return None
        if self.flow.read_paused:
            self.flow.resume_reading()
        body = bytes(self.body)
        self.body.clear()
        return body

    def arrived(self, max_bytes: int) -> bytes | None:
        """Return the body if all of it is here, at most `max_bytes`, and an answer can be written; keep it."""
        if self.more_body or self.disconnected or len(self.body) > max_bytes or self.flow.write_paused:
            return None
        return bytes(self.body)

    def respond(self, head: bytes, body: bytes, status: int = 200) -> bool:
        """Write a whole response; return False, and write nothing, if it has to wait: then use `send`.

        head: lines of headers, Content-Length among them. The request's method is not HEAD.
        """
        if self.flow.write_paused or self.response_started:
            return False
        self.response_started = True
        self.waiting_for_100_continue = False
        if self.disconnected:
            return True
        close_header = b"" if self.keep_alive else b"connection: close\r\n"
        self.transport.write(b"".join((STATUS_LINE[status], self._defaults(), head, close_header, b"\r\n", body)))
        self._complete()
        return True

    def _defaults(self) -> bytes:
        headers, lines = RequestCycle._default_head
        if headers is not self.default_headers:
            lines = b"".join(b"%b: %b\r\n" % header for header in self.default_headers)
            RequestCycle._default_head = self.default_headers, lines
        return lines

    async def receive(self) -> Any:
        """See ASGI."""
        message = await super().receive()
        if self.timed_out and message["type"] == "http.request" and message["more_body"]:
            return {"type": "http.disconnect", TIMED_OUT: True}
        return message

    async def send(self, message: Any) -> None:
        """See ASGI."""
        if message["type"] == "http.response.start" and not self.response_started:
            if not self.disconnected:
                self._start(message)
        elif self._head is not None:
            head, self._head = self._head, None
            await self._send_body(head, message)
        else:
            await super().send(message)

    def _start(self, message: Any) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        content = [STATUS_LINE[message["status"]]]
        says_close = False
        for name, value in (*self.default_headers, *message["headers"]):
            if name == b"content-length":
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"connection" and value == b"close":
                self.keep_alive = False
                says_close = True
            content += (name, b": ", value, b"\r\n")
        if not self.keep_alive and not says_close:
            content.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and message["status"] not in (204, 304):
            self.chunked_encoding = True
            content.append(b"transfer-encoding: chunked\r\n")
        content.append(b"\r\n")
        self._head = b"".join(content)

    async def _send_body(self, head: bytes, message: Any) -> None:
        body = message.get("body", b"")
        is_whole = not self.chunked_encoding and not message.get("more_body", False)
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not is_whole or self.scope["method"] == "HEAD" or len(body) != self.expected_content_length:
            self.transport.write(head)
            await super().send(message)
            return
        self.transport.write(head + body)
        self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def has_left(receive: Any) -> bool:
    """Return whether the client of a request, given by its ASGI `receive`, has closed the connection."""
    cycle = getattr(receive, "__self__", None)
    return isinstance(cycle, RequestCycle) and cycle.disconnected
