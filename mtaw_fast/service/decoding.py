"""From the bytes of a request to a checked value: how much is read, for how long, and what it must be."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from litestar import Request

from mtaw_fast.service.problems import ServiceError, invalid
from mtaw_fast.service.settings import Limits

_DISCARDED = (
    128 << 20
)  # bytes of a body that is too large which are read and dropped, so that the client gets to the answer


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON is decoded once, straight into the type that the route handler declares.

    Litestar by itself would decode to plain objects and convert those leniently: the text "5" would become a number.
    """

    async def json(self) -> Any:
        """The body as the handler's type. Raises ServiceError where it is too large, too slow or of other types."""
        body = await read_body(self, self.app.state.limits)
        try:
            return _decoder(self.scope["route_handler"]).decode(body)
        except msgspec.ValidationError as error:
            raise invalid("invalid_request", f"{error}; see /openapi.json") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise invalid("invalid_json", f"the body is not JSON ({error}); send one JSON object in UTF-8") from None

    async def body(self) -> bytes:
        """Not read here: `json` does it, under the limits. Only tells Litestar that there is one."""
        return b"{"


_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {}


def _decoder(handler: Any) -> msgspec.json.Decoder[Any]:
    wanted = handler.parsed_data_field.annotation
    decoder = _DECODERS.get(wanted)
    if decoder is None:
        decoder = _DECODERS[wanted] = msgspec.json.Decoder(wanted)
    return decoder


async def read_body(request: StrictRequest, limits: Limits) -> bytes:
    """The whole body. Raises ServiceError: 413 above the limit, 408 if it takes too long, 400 if the client left."""
    length = request.headers.get("content-length", "")
    declared = int(length) if length.isascii() and length.isdigit() else 0
    total, chunks, more = 0, [], declared <= _DISCARDED
    try:
        async with asyncio.timeout(limits.read_timeout):
            while more:
                message: Any = await request.receive()
                if message["type"] == "http.disconnect":
                    raise invalid("invalid_request", "the connection was closed before the body was complete")
                total += len(message["body"])
                if total <= limits.body and declared <= limits.body:
                    chunks.append(message["body"])
                more = message["more_body"] and total <= _DISCARDED
    except TimeoutError:
        raise ServiceError(
            408, "body_timeout", f"the body did not come within {limits.read_timeout:g} s; send it faster"
        ) from None
    if max(total, declared) > limits.body:
        raise ServiceError(
            413, "body_too_large", f"the body is larger than {limits.body} bytes; send less, or raise --max-body"
        )
    return b"".join(chunks)
