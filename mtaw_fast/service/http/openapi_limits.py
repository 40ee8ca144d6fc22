"""What the OpenAPI document cannot learn from the handlers' types: the limits of this very service."""

from __future__ import annotations

from typing import Any

from mtaw_fast.online.log.events import EARLIEST, LATEST, MOST_TEXT
from mtaw_fast.ranking.conditions import LATEST_MOMENT
from mtaw_fast.service.settings import Limits

_BOUNDS = {
    "string": {"minLength": 1, "maxLength": MOST_TEXT},
    "integer": {"minimum": -(2**63), "maximum": 2**63 - 1},
}  # of an item's id, where one may be new
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
        fields["at"]["oneOf"][0].update(minimum=0, maximum=LATEST_MOMENT - 1)
        if "session_id" in fields:
            fields["session_id"]["oneOf"][0].update(_BOUNDS["string"])
        if "session" in fields:
            fields["session"]["maxItems"] = limits.clicks
        if "items" in fields:
            fields["items"]["maxItems"] = limits.clicks
        if "sessions" in fields:
            fields["sessions"]["maxItems"] = limits.batch
            fields["sessions"]["items"]["maxItems"] = limits.clicks
    _state_event_limits(schemas)
    for name in ("FeedbackRequest", "AddItemsRequest", "RemoveItemsRequest"):
        if name in schemas:
            schemas[name]["additionalProperties"] = False
            if "items" in schemas[name]["properties"]:
                for one in schemas[name]["properties"]["items"]["items"]["oneOf"]:
                    one.update(_BOUNDS[one["type"]])
    if "FeedbackRequest" in schemas:
        for name in ("shown", "clicked", "bought"):
            schemas["FeedbackRequest"]["properties"][name]["maxItems"] = limits.k
    for path in ("/v1/similar", "/v1/items"):
        for parameter in document["paths"][path]["get"]["parameters"]:
            if parameter["name"] == "k":
                parameter["schema"]["maximum"] = limits.k


def _state_event_limits(schemas: dict[str, Any]) -> None:
    """What Litestar leaves out: limits of one type of several that a field may have."""
    if "EventRequest" not in schemas:
        return
    for name in ("EventsRequest", "EventRequest"):
        schemas[name]["additionalProperties"] = False
    fields = schemas["EventRequest"]["properties"]
    for name in ("item", "type", "id"):
        for one in fields[name]["oneOf"]:
            one.update(_BOUNDS.get(one["type"], {}))
    fields["time"]["oneOf"][0].update(minimum=EARLIEST, maximum=LATEST)
