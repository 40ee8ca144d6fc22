"""What the OpenAPI document cannot learn from the handlers' types: the limits of this very service."""

from __future__ import annotations

from typing import Any

from mtaw_fast.service.settings import Limits

_REQUESTS = ("RecommendRequest", "BatchRequest", "ClickRequest")


def state_limits(document: dict[str, Any], limits: Limits) -> None:
    """Write into the document what requests may hold: no unknown fields, and no more than `limits`."""
    schemas = document["components"]["schemas"]
    for name in _REQUESTS:
        if name not in schemas:
            continue
        schemas[name]["additionalProperties"] = False
        fields = schemas[name]["properties"]
        fields["k"]["maximum"] = limits.k
        if "session" in fields:
            fields["session"]["maxItems"] = limits.clicks
        if "items" in fields:
            fields["items"]["maxItems"] = limits.clicks
        if "sessions" in fields:
            fields["sessions"]["maxItems"] = limits.batch
            fields["sessions"]["items"]["maxItems"] = limits.clicks
    for name in ("EventsRequest", "EventRequest"):
        if name in schemas:
            schemas[name]["additionalProperties"] = False
    for parameter in document["paths"]["/v1/similar"]["get"]["parameters"]:
        if parameter["name"] == "k":
            parameter["schema"]["maximum"] = limits.k
