"""The body of a request: its limits of size, time and memory, and its value."""

from __future__ import annotations

from typing import Any

from litestar import Request

from mtaw_fast.service.errors import ServiceError, invalid, unavailable
from mtaw_fast.service.http.request_cycle import TIMED_OUT
from mtaw_fast.service.json_codec import decoded
from mtaw_fast.service.state import Service, service_of

_PARTIAL_BODIES = 64 << 20  # bytes of incomplete bodies that a worker holds, or one body if that may be larger
_DISCARDED = 128 << 20  # bytes of a too large body that are read and dropped, so that its client reads the answer


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON is decoded once, into the type that the route handler declares.

    Litestar itself decodes to plain objects and converts them leniently: the text "5" would become a number.
    """

    async def json(self) -> Any:
        """Return the body as the handler's type. Raises ServiceError as `read_body` and `decoded` do."""
        body = await read_body(self.receive, self.headers.get("content-length", ""), service_of(self))
        handler: Any = self.scope["route_handler"]
        return decoded(body, handler.parsed_data_field.annotation)

    async def body(self) -> bytes:
        """Tell Litestar that there is a body; `json` reads it."""
        return b"{"


async def read_body(receive: Any, length: str, service: Service) -> bytes:
    """Return the whole body. receive: ASGI's. length: the Content-Length, empty without one.

    Raises ServiceError: 413 above the limit, 408 if the body takes too long, 400 if the client left, 503 if incomplete
    bodies take too much memory.
    """
    limits = service.settings.limits
    declared = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0
    chunks: list[bytes] = []
    total = partial = 0
    more_body = declared <= max(_DISCARDED, limits.body)
    try:
        while more_body:
            message: Any = await receive()
            if message["type"] == "http.disconnect":
                if TIMED_OUT in message:
                    raise ServiceError(
                        408, "body_timeout", f"the body did not arrive within {limits.read_timeout:g} s; send it faster"
                    )
                raise invalid("invalid_request", "the connection was closed before the body was complete")
            chunk, more_body = message["body"], message["more_body"]
            total += len(chunk)
            if max(total, declared) > limits.body:
                chunks.clear()
                more_body = more_body and total <= _DISCARDED
                continue
            chunks.append(chunk)
            if more_body:
                partial += len(chunk)
                service.partial_bodies += len(chunk)
                if service.partial_bodies > max(_PARTIAL_BODIES, limits.body):
                    service.metrics.add("mtaw_rejected_total", "overloaded")
                    raise unavailable("overloaded", "too many request bodies are incomplete; try again")
    finally:
        service.partial_bodies -= partial
    if max(total, declared) > limits.body:
        raise ServiceError(
            413, "body_too_large", f"the body is larger than {limits.body} bytes; send less, or raise --max-body"
        )
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
