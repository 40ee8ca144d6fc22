"""The OpenAPI document: what Litestar derives from the handlers, with examples, errors, headers and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Components, Example, OpenAPIHeader, OpenAPIResponse, Operation, Schema, SecurityScheme
from litestar.openapi.spec.enums import OpenAPIType

from mtaw_fast import __version__
from mtaw_fast.data.context import MAX_CHARACTERS, MAX_COLUMNS
from mtaw_fast.experiment.lines import KINDS as REPORTED
from mtaw_fast.online.log.events import EARLIEST, LATEST, MAX_TEXT_LENGTH
from mtaw_fast.ranking.options import LATEST_MOMENT
from mtaw_fast.service.errors import ErrorAnswer
from mtaw_fast.service.http.responses import JSON
from mtaw_fast.service.ranking_ids import EXAMPLE
from mtaw_fast.service.settings import Limits

_NEED_TOKEN = (
    "reload", "compact", "add_items", "remove_items", "hide_items", "show_items", "put_items", "patch_items",
    "put_rules", "get_rules", "delete_rules",
)  # fmt: skip
VERSION_HEADER = "X-Bundle-Version"

_VERSION = "0f3a6c1d2b4e5f60"
_RANKING = {
    "recommendation": EXAMPLE,
    "items": ["sku-2", "sku-9"],
    "scores": [11.25, 9.5],
    "unknown": [],
    "fallback": False,
}
_TIMINGS = {"queue": 4.0, "lookup": 1.5, "encode": 7.25, "retrieve": 51.0, "memory": 60.0, "assemble": 2.25,
            "total": 122.0}  # fmt: skip
_TABLE = {
    "items": [{"id": "sku-9", "title": "Red shoe", "price": 59.9}, {"id": "sku-4", "title": "Blue hat", "price": None}],
    "public": ["title"],
}
_TABLE_ANSWER = {
    "version": _VERSION, "items": 40728, "log_position": "0000000000-000000001113", "rows": 2, "known": 2,
    "columns": [
        {"name": "title", "kind": "category", "public": True, "missing": 40726},
        {"name": "price", "kind": "number", "public": False, "missing": 40727},
    ],
    "notes": [],
}  # fmt: skip
_ERRORS = {
    400: ("invalid_request", "Object missing required field `session`; see /openapi.json"),
    401: ("unauthorized", "send 'Authorization: Bearer' with the token of the service"),
    403: ("foreign_origin", "a page of another origin may not click; send it from your own host"),
    404: ("unknown_item", "the item is not in the catalog; give one of its ids"),
    408: ("body_timeout", "the body did not arrive within 10 s; send it faster"),
    409: ("bundle_refused", "shop.bundle/weights.safetensors is damaged; the old bundle stays in service"),
    413: ("body_too_large", "the body is larger than 1048576 bytes; send less, or raise --max-body"),
    503: ("overloaded", "256 requests are waiting already; try again"),
}
_MEANINGS = {
    400: "The request is not valid.",
    401: "The bearer token is missing or wrong.",
    403: "A page of another origin may have sent it; or the service has no token and refuses every operator.",
    404: "There is no such item, session or route.",
    408: "The body did not arrive in time.",
    409: "The new bundle is damaged; the items do not fit the catalog; or the service keeps no changes.",
    413: "The body is too large.",
    503: "Not now: try again after Retry-After seconds.",
}

_RULES = {
    "filter": 'category in ("shoes", "boots") and price < 80',
    "boost": {"when": 'brand == "own"', "by": 0.3},
    "limit": {"per": "brand", "most": 2},
    "pin": {"sku-1": 3},
}

# operation: (tag, example of a request, example of an answer)
_EXAMPLES: dict[str, tuple[str, Any, Any]] = {
    "recommend": (
        "ranking",
        {"session": ["sku-9", "sku-4"], "k": 2, "exclude": ["sku-7"], "timings": True, "repeats": True,
         "reasons": True},
        {"version": _VERSION, **_RANKING, "repeats": [False, True], "timings": _TIMINGS,
         "reasons": [{"kind": "together", "items": ["sku-9", "sku-4"]}, {"kind": "session", "items": []}]},
    ),
    "batch": (
        "ranking",
        {"sessions": [["sku-9", "sku-4"], []], "k": 2},
        {"version": _VERSION, "answers": [_RANKING, {**_RANKING, "scores": [812.0, 640.0], "fallback": True}]},
    ),
    "similar": (
        "items", None,
        {"version": _VERSION, "recommendation": EXAMPLE, "items": ["sku-4", "sku-2"], "scores": [0.875, 0.5]},
    ),
    "find": ("items", None, {"version": _VERSION, "items": ["sku-4", "sku-40", "sku-41"]}),
    "add_items": (
        "items",
        {"items": ["sku-new"], "neighbors": [["sku-9", "sku-4"]]},
        {"version": _VERSION, "items": 40728, "log_position": "0000000000-000000000113"},
    ),
    "remove_items": (
        "items",
        {"items": ["sku-7"]},
        {"version": _VERSION, "items": 40726, "log_position": "0000000000-000000000162"},
    ),
    "hide_items": (
        "items",
        {"items": ["sku-7"]},
        {"version": _VERSION, "items": 40727, "log_position": "0000000000-000000000211"},
    ),
    "show_items": (
        "items",
        {"items": ["sku-7"]},
        {"version": _VERSION, "items": 40728, "log_position": "0000000000-000000000260"},
    ),
    "put_items": ("items", _TABLE, _TABLE_ANSWER),
    "patch_items": ("items", {"items": [{"id": "sku-9", "price": 49.9}]}, _TABLE_ANSWER | {"rows": 1, "known": 1}),
    "put_rules": ("items", _RULES, {"version": _VERSION, "log_position": "0000000000-000000000113"}),
    "get_rules": ("items", None, {"version": _VERSION, "rules": _RULES}),
    "delete_rules": ("items", None, {"version": _VERSION, "log_position": "0000000000-000000000162"}),
    "feedback": (
        "feedback",
        {"recommendation": EXAMPLE, "shown": ["sku-2", "sku-9"], "clicked": ["sku-2"]},
        {"version": _VERSION, "of": _VERSION, "new": 3},
    ),
    "session": ("sessions", None, {"version": _VERSION, "clicks": ["sku-9", "sku-4"]}),
    "click": ("sessions", {"items": ["sku-4"], "k": 2}, {"version": _VERSION, **_RANKING, "clicks": 3}),
    "events": (
        "learning",
        {"events": [{"id": "e-1", "session": "s-1", "item": "sku-9", "time": 1764150000000, "type": "view"}]},
        {"version": _VERSION, "accepted": 1, "log_position": "0000000000-000000000113"},
    ),
    "forget": ("learning", None, {"version": _VERSION, "log_position": "0000000000-000000000162"}),
    "bundle": (
        "operation", None,
        {
            "version": _VERSION, "items": 40727, "ids": "str", "encoder": "native", "index": "native",
            "limits": {"k": 500, "clicks": 1000, "batch": 256, "body": 1048576},
        },
    ),
    "health": ("operation", None, {"version": _VERSION, "status": "ok"}),
    "ready": ("operation", None, {"version": _VERSION, "status": "ready"}),
    "metrics": ("operation", None, None),
    "reload": ("operation", None, {"version": _VERSION, "result": "loaded", "workers": {_VERSION: 2}}),
    "compact": ("operation", None, {"version": _VERSION, "log_position": "0000000000-000000000162"}),
}  # fmt: skip


def operation(name: str) -> type[Operation]:
    """Return the OpenAPI operation of a route: its id is `name`, its examples are those of `name`."""
    tag, request, answer = _EXAMPLES[name]

    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            self.operation_id, self.tags = name, [tag]
            if request is not None:
                self.request_body.content[JSON].examples = {name: Example(value=request)}  # type: ignore[union-attr]
            for status, response in (self.responses or {}).items():
                assert isinstance(response, OpenAPIResponse)
                response.headers = {**(response.headers or {}), VERSION_HEADER: _version_header()}
                if status == "200" and answer is not None and response.content:
                    response.content[JSON].examples = {name: Example(value=answer)}
            if name in _NEED_TOKEN:
                self.security = [{"bearer": []}]

    return Described


def errors(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the error responses of a route."""
    return {
        status: ResponseSpec(
            ErrorAnswer,
            generate_examples=False,
            description=_MEANINGS[status],
            examples=[
                Example(
                    value={"error": dict(zip(("code", "message"), _ERRORS[status], strict=True)), "version": _VERSION}
                )
            ],
        )
        for status in statuses
    }


def openapi_config() -> OpenAPIConfig:
    """Return the parts of the document that belong to no route."""
    return OpenAPIConfig(
        title="mtaw_fast",
        version=__version__,
        description=f"Ranks a catalog for the next click of a session. Every response has the header {VERSION_HEADER}.",
        components=Components(security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer")}),
        use_handler_docstrings=True,
    )


def _version_header() -> OpenAPIHeader:
    return OpenAPIHeader(
        description="The bundle that answered.",
        required=True,
        schema=Schema(type=OpenAPIType.STRING, pattern="^[0-9a-f]{16}$"),
    )


_ID_BOUNDS = {"integer": {"minimum": -(2**63), "maximum": 2**63 - 1}, "string": {"maxLength": MAX_TEXT_LENGTH}}
_BOUNDS = {**_ID_BOUNDS, "string": {"minLength": 1, "maxLength": MAX_TEXT_LENGTH}}  # of an item id that may be new
_QUERY_IDS = ("item", "exclude", "allow", "session_id", "search")
_REQUESTS = ("RecommendRequest", "BatchRequest", "ClickRequest")


def state_limits(document: dict[str, Any], limits: Limits) -> None:
    """Add to the document what requests may contain: no unknown fields, and no more than `limits`."""
    schemas = document["components"]["schemas"]
    _state_id_limits(schemas)
    for name in schemas:
        if name.endswith(("Request", "ReportedItem")):
            schemas[name]["additionalProperties"] = False
    for name in _REQUESTS:
        if name not in schemas:
            continue
        fields = schemas[name]["properties"]
        fields["k"]["maximum"] = limits.k
        fields["at"]["oneOf"][0].update(minimum=0, maximum=LATEST_MOMENT - 1)
        fields["explore"]["oneOf"][0].update(minimum=0, maximum=1)
        fields["fields"]["items"].update(_BOUNDS["string"])
        fields["rules"]["oneOf"][1].update(_ID_BOUNDS["string"])
        _state_context_limits(fields["context"])
        if "session_id" in fields:
            fields["session_id"]["oneOf"][0].update(_BOUNDS["string"])
        if "session" in fields:
            fields["session"]["maxItems"] = limits.clicks
        if "items" in fields:
            fields["items"]["maxItems"] = limits.clicks
        if "types" in fields:
            lists = fields["types"]["oneOf"][0]
            (lists["items"]["oneOf"][0] if "sessions" in fields else lists)["items"]["oneOf"][0].update(
                _BOUNDS["string"]
            )
        if "sessions" in fields:
            fields["sessions"]["maxItems"] = limits.batch
            fields["sessions"]["items"]["maxItems"] = limits.clicks
    condition = schemas["BoostRequest"]["properties"]["when"]["maxLength"]
    one, several, _ = schemas["RulesRequest"]["properties"]["filter"]["oneOf"]
    one["maxLength"] = several["items"]["maxLength"] = condition
    _state_event_limits(schemas)
    for name in ("FeedbackRequest", "AddItemsRequest", "RemoveItemsRequest", "HideItemsRequest"):
        if name in schemas and "items" in schemas[name]["properties"]:
            for choice in schemas[name]["properties"]["items"]["items"]["oneOf"]:
                choice.update(_BOUNDS[choice["type"]])
    table = schemas.get("ItemTableRequest", {}).get("properties")
    if table is not None:
        for names in (table["public"]["oneOf"][0]["items"], table["availability"]["oneOf"][0]):
            names.update(_BOUNDS["string"])
    if "FeedbackRequest" in schemas:
        schemas["FeedbackRequest"]["properties"]["session"]["oneOf"][0].update(_BOUNDS["string"])
        for name in REPORTED:
            schemas["FeedbackRequest"]["properties"][name]["maxItems"] = limits.k
    for path in ("/v1/similar", "/v1/items"):
        for parameter in document["paths"][path]["get"]["parameters"]:
            if parameter["name"] == "k":
                parameter["schema"]["maximum"] = limits.k
            if parameter["name"] in _QUERY_IDS:
                schema = parameter["schema"]
                for choice in schema.get("oneOf", [schema]):
                    if choice["type"] != "null":
                        choice.get("items", choice).update(_ID_BOUNDS["string"])


def _state_id_limits(node: Any) -> None:
    """Add the limits of ids to all schemas in a part of the document that allow both types of ids, or an object too."""
    types = [choice.get("type") for choice in node.get("oneOf", ())] if isinstance(node, dict) else []
    if types in (list(_ID_BOUNDS), [*_ID_BOUNDS, None]):
        for child in node["oneOf"]:
            child.update(_ID_BOUNDS.get(child.get("type"), {}))
        return
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _state_id_limits(child)


def _state_context_limits(schema: dict[str, Any]) -> None:
    columns = schema["oneOf"][0]
    columns["maxProperties"] = MAX_COLUMNS
    number, text, _ = columns["additionalProperties"]["oneOf"]
    number.update(_ID_BOUNDS["integer"])
    text["maxLength"] = MAX_CHARACTERS


def _state_event_limits(schemas: dict[str, Any]) -> None:
    """Add the limits of fields with several types, which Litestar leaves out."""
    if "EventRequest" not in schemas:
        return
    fields = schemas["EventRequest"]["properties"]
    for name in ("item", "type", "id"):
        for choice in fields[name]["oneOf"]:
            choice.update(_BOUNDS.get(choice["type"], {}))
    fields["time"]["oneOf"][0].update(minimum=EARLIEST, maximum=LATEST)
    _state_context_limits(fields["context"])
