"""The OpenAPI document: what Litestar derives from the handlers, with examples, errors, headers and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Components, Example, OpenAPIHeader, OpenAPIResponse, Operation, Schema, SecurityScheme
from litestar.openapi.spec.enums import OpenAPIType

from mtaw_fast import __version__
from mtaw_fast.experiment.lines import KINDS as REPORTED
from mtaw_fast.online.log.events import EARLIEST, LATEST, MAX_TEXT_LENGTH
from mtaw_fast.ranking.options import LATEST_MOMENT
from mtaw_fast.service.errors import ErrorAnswer
from mtaw_fast.service.http.responses import JSON
from mtaw_fast.service.ranking_ids import EXAMPLE
from mtaw_fast.service.routes import answers, requests
from mtaw_fast.service.settings import Limits

_NEED_TOKEN = (
    "reload", "compact", "add_items", "remove_items", "hide_items", "show_items", "put_items", "patch_items",
    "put_placement", "get_placement", "get_placements", "delete_placement", "refusals", "new_items",
)  # fmt: skip
_MAY_HAVE_TOKEN = ("events", "click")
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
    403: (
        "foreign_origin",
        "a page of another origin may not do this; send it from your own host, or see --cors-origin",
    ),
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
    "diversify": {"per": "brand", "most": 1, "of": 3},
    "pin": {"sku-1": 3},
}
_PLACEMENT = {
    "sets": [
        {"name": "sale", "rules": {"boost": {"when": "sale", "by": 1}}, "from": "2026-12-20", "until": "2026-12-27"},
        {"name": "plain", "rules": _RULES},
    ]
}
_REVISION = {"number": 1, "time": 1764150000000, "content": _PLACEMENT}

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
    "new_items": (
        "items", None,
        {"version": _VERSION, "items": [{"item": "sku-new", "displays": 116, "clicks": 4, "explored": False}]},
    ),
    "put_items": ("items", _TABLE, _TABLE_ANSWER),
    "patch_items": ("items", {"items": [{"id": "sku-9", "price": 49.9}]}, _TABLE_ANSWER | {"rows": 1, "known": 1}),
    "put_placement": (
        "placements", _PLACEMENT, {"version": _VERSION, "log_position": "0000000000-000000000113", "notes": []},
    ),
    "get_placement": ("placements", None, {"version": _VERSION, "revisions": [_REVISION]}),
    "get_placements": ("placements", None, {"version": _VERSION, "placements": {"cart": _REVISION}, "broken": {}}),
    "delete_placement": ("placements", None, {"version": _VERSION, "log_position": "0000000000-000000000162"}),
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
        {"version": _VERSION, "accepted": 1, "log_position": "0000000000-000000000113", "refused": {}},
    ),
    "forget": ("learning", None, {"version": _VERSION, "log_position": "0000000000-000000000162"}),
    "bundle": (
        "operation", None,
        {
            "version": _VERSION, "items": 40727, "ids": "str", "encoder": "native", "index": "native",
            "limits": {"k": 500, "clicks": 1000, "batch": 256, "results": 50000, "body": 1048576},
        },
    ),
    "health": ("operation", None, {"version": _VERSION, "status": "ok"}),
    "ready": ("operation", None, {"version": _VERSION, "status": "ready"}),
    "metrics": ("operation", None, None),
    "reload": ("operation", None, {"version": _VERSION, "result": "loaded", "workers": {_VERSION: 2}}),
    "compact": ("operation", None, {"version": _VERSION, "log_position": "0000000000-000000000162"}),
    "refusals": (
        "operation", None,
        {
            "version": _VERSION, "busiest_origin_share": 0.25,
            "refusals": [
                {"rule": "origin", "item": "sku-9", "time": 1764150000007, "origin": "5f0c1a2b3d4e6f70"},
                {"rule": "flood", "item": "sku-4", "time": 1764150000000, "origin": None},
            ],
        },
    ),
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
            elif name in _MAY_HAVE_TOKEN:
                self.security = [{"bearer": []}, {}]

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


_LIMITS = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties", "pattern")
_RANKING_REQUESTS = ("RecommendRequest", "BatchRequest", "ClickRequest")
_QUERY_IDS = ("item", "exclude", "allow", "session_id", "search")


def state_limits(document: dict[str, Any], limits: Limits) -> None:
    """Add to the document what requests may contain: no unknown fields, and no more than `limits`."""
    schemas = document["components"]["schemas"]
    structs = [kind for module in (requests, answers) for name, kind in vars(module).items() if name in schemas]
    _, exact = msgspec.json.schema_components(structs)
    for name in exact.keys() & schemas:
        _copy_limits(schemas[name], exact[name])
    for name, schema in schemas.items():
        fields = schema.get("properties", {})
        if name.endswith(("Request", "ReportedItem")):
            schema["additionalProperties"] = False
        if name in _RANKING_REQUESTS:
            fields["k"]["maximum"] = limits.k
            fields["at"]["oneOf"][0].update(minimum=0, maximum=LATEST_MOMENT - 1)
            for clicks in ("session", "items"):
                if clicks in fields:
                    fields[clicks]["maxItems"] = limits.clicks
            if "sessions" in fields:
                fields["sessions"]["maxItems"] = limits.batch
                fields["sessions"]["items"]["maxItems"] = limits.clicks
        if name == "EventRequest":
            fields["time"]["oneOf"][0].update(minimum=EARLIEST, maximum=LATEST)
        if name == "FeedbackRequest":
            for kind in REPORTED:
                fields[kind]["maxItems"] = limits.k
    for path in ("/v1/similar", "/v1/items"):
        for parameter in document["paths"][path]["get"]["parameters"]:
            schema = parameter["schema"]
            if parameter["name"] == "k":
                schema["maximum"] = limits.k
            if parameter["name"] in _QUERY_IDS:
                for choice in schema.get("oneOf", [schema]):
                    if choice["type"] != "null":
                        choice.get("items", choice)["maxLength"] = MAX_TEXT_LENGTH


def _copy_limits(schema: dict[str, Any], exact: dict[str, Any]) -> None:
    """Copy the limits of msgspec's schema of a type: Litestar leaves out those of values with several types."""
    schema.update({name: exact[name] for name in _LIMITS if name in exact and name not in schema})
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            _copy_limits(schema[inner], exact.get(inner, {}))
    for name, field in schema.get("properties", {}).items():
        _copy_limits(field, exact["properties"][name])
    for choice in schema.get("oneOf", ()):
        for same in exact.get("anyOf", ()):
            if choice.get("type") == same.get("type"):
                _copy_limits(choice, same)
