"""For schemathesis: whole numbers are sent as integers. To JSON Schema 20.0 is one too; to the service it is none."""

from __future__ import annotations

from typing import Any

import schemathesis


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
