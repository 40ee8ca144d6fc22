"""JSON of requests and answers, with strict types."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from mtaw_fast.service.errors import invalid

T = TypeVar("T")

_ENCODER = msgspec.json.Encoder()
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {}


def encoded(answer: msgspec.Struct) -> bytes:
    """Return an answer as JSON."""
    try:
        return _ENCODER.encode(answer)
    except UnicodeEncodeError:  # an item id with half a surrogate pair: JSON can escape it, UTF-8 cannot encode it
        return json.dumps(msgspec.to_builtins(answer), separators=(",", ":")).encode()


def decoded(body: bytes, body_type: type[T]) -> T:
    """Return the JSON of a body as a type. Raises ServiceError (400) if it is not JSON, or has other types."""
    decoder = _DECODERS.get(body_type)
    if decoder is None:
        decoder = _DECODERS[body_type] = msgspec.json.Decoder(body_type)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        if text.endswith("`") and " - at " not in text and issubclass(body_type, msgspec.Struct):  # an unknown field
            text = f"{text}; the fields are {', '.join(body_type.__struct_fields__)}"
        raise invalid("invalid_request", f"{text}; see /openapi.json") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid("invalid_json", f"the body is not JSON ({error}); send one JSON object in UTF-8") from None
