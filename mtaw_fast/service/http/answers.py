"""Answers as they go out: JSON."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from litestar import Response

JSON = "application/json"
_ENCODER = msgspec.json.Encoder()


def encoded(answer: msgspec.Struct) -> bytes:
    """An answer as JSON."""
    try:
        return _ENCODER.encode(answer)
    except UnicodeEncodeError:  # half a surrogate pair in an item's id: JSON has an escape for it, UTF-8 has nothing
        return json.dumps(msgspec.to_builtins(answer)).encode()


def json_response(answer: msgspec.Struct) -> Response[Any]:
    """A response of status 200 that holds an answer."""
    return Response(encoded(answer), media_type=JSON)
