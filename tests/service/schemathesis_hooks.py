"""For schemathesis: whole numbers are sent as integers, since 20.0 is one to JSON Schema, too, and none to the service.
Ids are sent as texts, as the catalog's are: a session of numbers alone is refused."""

from __future__ import annotations

from typing import Any

import schemathesis

_CLICKS = ("session", "sessions", "items", "shown", "clicked", "bought")


@schemathesis.hook
def map_body(_: Any, body: Any) -> Any:
    """The body with 20 in the place of 20.0."""
    if isinstance(body, float) and body.is_integer():
        return int(body)
    if isinstance(body, list):
        return [map_body(_, one) for one in body]
    if isinstance(body, dict):
        return {name: map_body(_, one) for name, one in body.items()}
    return body


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """The body with "20" in the place of 20 where it is the id of a click."""
    if isinstance(case.body, dict):
        case.body = {name: _as_text(one) if name in _CLICKS else one for name, one in case.body.items()}


def _as_text(ids: Any) -> Any:
    """Numbers in lists, at any depth, as texts."""
    if not isinstance(ids, list):
        return ids
    return [str(one) if isinstance(one, int | float) and not isinstance(one, bool) else _as_text(one) for one in ids]
