"""JSON of requests and answers, with strict types."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec
import msgspec.inspect

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
        text, _, path = str(error).partition(" - at ")
        if "field `" in text and (names := _fields_at(body_type, path)):  # an unknown or a missing one
            text = f"{error}; the fields are {', '.join(names)}"
        elif "` <" in text or "` >" in text:  # a number out of bounds
            text = _bounds_at(body_type, path) or str(error)
        else:
            text = str(error)
        raise invalid("invalid_request", f"{text}; see /openapi.json") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid("invalid_json", f"the body is not JSON ({error}); send one JSON object in UTF-8") from None


def _fields_at(body_type: Any, path: str) -> list[str]:
    """Return the fields of the struct at a path of msgspec such as `$.events[1]`; an empty one is the body's."""
    structs = [kind for kind in _kinds_at(body_type, path) if isinstance(kind, msgspec.inspect.StructType)]
    return [field.encode_name for field in structs[0].fields] if structs else []


def _bounds_at(body_type: Any, path: str) -> str | None:
    """Return what the number at a path must be, in a sentence; None if its type has no bounds, or may be a text."""
    kinds = _kinds_at(body_type, path)
    for kind in () if any(isinstance(kind, msgspec.inspect.StrType) for kind in kinds) else kinds:
        if isinstance(kind, (msgspec.inspect.IntType, msgspec.inspect.FloatType)):
            limits = ((kind.gt, "above"), (kind.ge, "at least"), (kind.lt, "below"), (kind.le, "at most"))
            bounds = [f"{words} {limit:,}" for limit, words in limits if limit is not None]
            if bounds:
                number = "whole number" if isinstance(kind, msgspec.inspect.IntType) else "number"
                return f"{path.strip('`').removeprefix('$.')} must be a {number}, {' and '.join(bounds)}"
    return None


def _kinds_at(body_type: Any, path: str) -> list[Any]:
    """Return the types that the value at a path may have."""
    found = _choices(msgspec.inspect.type_info(body_type))
    for name in re.findall(r"\.([^.\[`]+)|\[", path):
        found = [choice for kind in found for inner in _inside(kind, name) for choice in _choices(inner)]
    return found


def _choices(kind: Any) -> list[Any]:
    """Return the types that a value may have, without their limits."""
    if isinstance(kind, msgspec.inspect.Metadata):
        return _choices(kind.type)
    if isinstance(kind, msgspec.inspect.UnionType):
        return [choice for one in kind.types for choice in _choices(one)]
    return [kind]


def _inside(kind: Any, name: str) -> list[Any]:
    """Return the type of a field, or of the elements if the name is empty; nothing if there are none."""
    if isinstance(kind, msgspec.inspect.StructType):
        return [field.type for field in kind.fields if field.encode_name == name]
    return [getattr(kind, key) for key in ("item_type", "value_type") if not name and hasattr(kind, key)]
