"""From a structure to JSON."""

from __future__ import annotations

import json

import msgspec

_ENCODER = msgspec.json.Encoder()


def encoded(answer: msgspec.Struct) -> bytes:
    """Return an answer as JSON."""
    try:
        return _ENCODER.encode(answer)
    except UnicodeEncodeError:  # an item id with half a surrogate pair: JSON can escape it, UTF-8 cannot encode it
        return json.dumps(msgspec.to_builtins(answer), separators=(",", ":")).encode()
