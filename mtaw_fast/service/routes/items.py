"""The routes about items: those similar to one, those whose ids contain a text, and changes of the catalog."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

import numpy as np
from litestar import Response, get, post
from litestar.params import Body, Parameter

from mtaw_fast.errors import DataError, LearnError, UsageError
from mtaw_fast.online.log.events import MAX_TEXT_LENGTH
from mtaw_fast.recommender import Recommender
from mtaw_fast.service.background import in_background
from mtaw_fast.service.errors import ServiceError, invalid, unavailable
from mtaw_fast.service.http.access import admin_only
from mtaw_fast.service.http.decoding import StrictRequest
from mtaw_fast.service.http.responses import JSON, encoded, json_response
from mtaw_fast.service.ranking_ids import new_id
from mtaw_fast.service.routes.item_search import find_ids
from mtaw_fast.service.routes.messages import (
    AddItemsRequest,
    FoundItems,
    ItemsAnswer,
    RemoveItemsRequest,
    SimilarAnswer,
)
from mtaw_fast.service.routes.openapi import errors, operation
from mtaw_fast.service.routes.ranking import LONG_LIST, check_k
from mtaw_fast.service.snapshot import Snapshot
from mtaw_fast.service.state import service_of

_DIGITS = "0123456789"
_INT64 = 2**63
By = Literal["vectors", "sessions"]


@dataclass(frozen=True, slots=True)
class SimilarQuery:
    """The ids in a query string, as text. allow: None if there is none. session: the session's id, if there is one."""

    item: str
    exclude: list[str] = field(default_factory=list)
    allow: list[str] | None = None
    session: str | None = None

    @classmethod
    def of(cls, query: bytes) -> SimilarQuery:
        """Read a query string. Raises ServiceError as `query_values` does, or if a field is repeated."""
        values = query_values(query)
        return cls(
            one_of(values, "item"), values.get("exclude", []), values.get("allow"),
            one_of(values, "session_id") if "session_id" in values else None,
        )  # fmt: skip


def query_values(query: bytes) -> dict[str, list[str]]:
    """Return the values of a query string by name. Raises ServiceError if it is not UTF-8, or a value is too long."""
    try:
        values = parse_qs(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise invalid("invalid_item", "the query is not UTF-8; percent-encode the item's UTF-8 bytes") from None
    except ValueError:
        raise invalid("invalid_request", "the query has too many fields; send fewer") from None
    for name, texts in values.items():
        longest = max(map(len, texts))
        if longest > MAX_TEXT_LENGTH:
            raise invalid(
                "invalid_request",
                f"`{name[:40]}` in the query has {longest} characters, the most is {MAX_TEXT_LENGTH}",
            )
    return values


def one_of(values: dict[str, list[str]], name: str) -> str:
    """Return the value of a name. Raises ServiceError unless there is exactly one."""
    found = values.get(name, [])
    if len(found) != 1:
        raise invalid(
            "invalid_item" if name == "item" else "invalid_request",
            f"the query has {len(found)} values of {name}; give one, with ? & = % + percent-encoded",
        )
    return found[0]


def similar(snapshot: Snapshot, asked: SimilarQuery, k: int, by: By) -> SimilarAnswer:
    """Return the items most similar to one. Raises ServiceError if it is unknown, or `by` needs a missing memory."""
    recommender = snapshot.recommender
    item = typed_id(snapshot, asked.item)
    if item not in recommender.ids:
        raise ServiceError(404, "unknown_item", "the item is not in the catalog; give one of its ids")
    if by == "sessions" and recommender.bundle.memory is None:
        raise invalid("no_session_memory", "this bundle has no session memory; ask with by=vectors")
    try:
        out = recommender.similar_items(
            item,
            k,
            by=by,
            exclude=[typed_id(snapshot, text) for text in asked.exclude],
            allow=None if asked.allow is None else [typed_id(snapshot, text) for text in asked.allow],
        )
    except UsageError as error:
        raise invalid("invalid_request", str(error)) from None
    return SimilarAnswer(
        version=snapshot.version, bundle=snapshot.name, recommendation=new_id(snapshot.version), items=out.items,
        scores=out.scores.tolist(),
    )  # fmt: skip


def typed_id(snapshot: Snapshot, text: str) -> int | str:
    """Return an id of a query in the type of the bundle's ids."""
    if snapshot.recommender.ids.kind == "str":
        return text
    digits = text.removeprefix("-")
    number = int(text) if digits and not digits.strip(_DIGITS) and len(digits) < 20 else _INT64  # int64 has 19 digits
    if not -_INT64 <= number < _INT64:
        raise invalid("invalid_item", "the item ids of this bundle are integers of 64 bits; give the digits of one")
    return number


@get("/v1/similar", responses=errors(400, 404, 503), operation_class=operation("similar"))
async def similar_items(
    request: StrictRequest,
    item: Annotated[  # noqa: ARG001 (only for the OpenAPI document, as below: `SimilarQuery` reads the query)
        str, Parameter(description="An item's id; its digits if the bundle's ids are integers.")
    ],
    k: Annotated[int, Parameter(description="The most results to return.", ge=1)] = 20,
    by: Annotated[
        By, Parameter(description="Cosine of the items' vectors, or of the sessions that contain them.")
    ] = "vectors",
    exclude: Annotated[  # noqa: ARG001
        list[str] | None, Parameter(description="Leave this item out; may be repeated.")
    ] = None,
    allow: Annotated[  # noqa: ARG001
        list[str] | None, Parameter(description="Return only such items; may be repeated.")
    ] = None,
    session_id: Annotated[  # noqa: ARG001
        str | None, Parameter(description="The session's id, if several bundles are served.")
    ] = None,
) -> Response[SimilarAnswer]:
    """Return the items most similar to one."""
    service = service_of(request)
    check_k(k, service.settings.limits)
    asked = SimilarQuery.of(request.scope["query_string"])

    def work(*_: Any) -> SimilarAnswer:
        return similar(service.take(request, asked.session), asked, k, by)

    if len(asked.exclude) + len(asked.allow or ()) > LONG_LIST:
        return json_response(await service.queue.run_in_thread(work))
    return json_response(await service.queue.run(work))


@get("/v1/items", responses=errors(400, 503), operation_class=operation("find"))
async def find_items(
    request: StrictRequest,
    search: Annotated[  # noqa: ARG001
        str, Parameter(description="A part of the id; of integers, their first digits.", min_length=1)
    ],
    k: Annotated[int, Parameter(description="The most ids to return.", ge=1)] = 20,
) -> Response[FoundItems]:
    """Return ids that contain a text: first the id that equals it, then the others in the order of the catalog."""
    service = service_of(request)
    check_k(k, service.settings.limits)
    text = one_of(query_values(request.scope["query_string"]), "search")
    snapshot = service.take(request)

    def work(_: float, check_deadline: Callable[[], None]) -> bytes:
        found = find_ids(snapshot.recommender, text, k, check_deadline)
        return encoded(FoundItems(version=snapshot.version, items=found))

    return Response(await service.queue.run_in_thread(work), media_type=JSON)  # type: ignore[arg-type]


_CHANGE_ERRORS = errors(400, 401, 403, 408, 409, 413, 503)


@post(
    "/admin/items/add", status_code=200, responses=_CHANGE_ERRORS, operation_class=operation("add_items"),
    guards=[admin_only],
)  # fmt: skip
async def add_items(request: StrictRequest, data: Annotated[AddItemsRequest, Body()]) -> Response[ItemsAnswer]:
    """Add items to the catalog, with neighbors or vectors.

    Once this answers they are in the log; within a second every worker recommends them. Needs the bearer token, and a
    service that learns.
    """
    vectors = None if data.vectors is None else _matrix(data.vectors)
    return await _changed(
        request, lambda recommender: recommender.add_items(data.items, vectors=vectors, neighbors=data.neighbors)
    )


@post(
    "/admin/items/remove", status_code=200, responses=_CHANGE_ERRORS, operation_class=operation("remove_items"),
    guards=[admin_only],
)  # fmt: skip
async def remove_items(request: StrictRequest, data: Annotated[RemoveItemsRequest, Body()]) -> Response[ItemsAnswer]:
    """Stop recommending items; as clicks they stay known. In the log and in every worker as added items are."""
    return await _changed(request, lambda recommender: recommender.remove_items(data.items))


async def _changed(request: StrictRequest, change: Callable[[Recommender], None]) -> Response[ItemsAnswer]:
    service = service_of(request)
    if not service.learns:
        raise ServiceError(
            409,
            "not_learning",
            "changes of the catalog are kept in the log of learning; start the service with --learn FOLDER",
        )
    snapshot = service.take(request)
    recommender = snapshot.recommender

    def work() -> str:
        change(recommender)
        position = recommender.log_position
        assert position is not None
        return position

    try:
        position = await in_background(work)
    except (DataError, UsageError) as error:
        raise ServiceError(409, "items_refused", str(error)) from None
    except LearnError as error:
        raise unavailable("not_kept", str(error)) from None
    return json_response(ItemsAnswer(version=snapshot.version, items=recommender.n_items, log_position=position))


def _matrix(rows: list[list[float]]) -> np.ndarray:
    """Return the rows as float64[M, d]. Raises ServiceError if their lengths differ."""
    if len({len(row) for row in rows}) > 1:
        raise ServiceError(
            409, "items_refused", "the vectors have different lengths; send the same number of values for each item"
        )
    return np.array(rows, dtype=np.float64)


_DIGITS = "0123456789"
