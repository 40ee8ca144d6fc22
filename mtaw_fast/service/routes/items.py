"""The routes about items: those like one, those whose ids hold a text, and which ones the catalog has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from litestar import Response, get, post
from litestar.params import Body, Parameter

from mtaw_fast.errors import DataError, LearnError, UsageError
from mtaw_fast.recommender import Recommender
from mtaw_fast.service.background import in_background
from mtaw_fast.service.http.answers import JSON, encoded, json_response
from mtaw_fast.service.http.decoding import StrictRequest
from mtaw_fast.service.http.openapi import errors, operation
from mtaw_fast.service.http.problems import ServiceError, unavailable
from mtaw_fast.service.routes.admin_token import admin_only
from mtaw_fast.service.routes.item_search import find_ids
from mtaw_fast.service.routes.messages import (
    AddItemsRequest,
    FoundItems,
    ItemsAnswer,
    RemoveItemsRequest,
    SimilarAnswer,
)
from mtaw_fast.service.routes.ranking import LONG_LIST, check_k
from mtaw_fast.service.routes.similar import By, SimilarQuery, one_of, query_values, similar
from mtaw_fast.service.state import service_of


@get("/v1/similar", responses=errors(400, 404, 503), operation_class=operation("similar"))
async def similar_items(
    request: StrictRequest,
    item: Annotated[  # noqa: ARG001 (for the OpenAPI document, as those below: the query is read strictly)
        str, Parameter(description="An item's id; digits where the bundle's ids are integers.")
    ],
    k: Annotated[int, Parameter(description="How many results at most.", ge=1)] = 20,
    by: Annotated[
        By, Parameter(description="Whose cosine: of the items' vectors, or of the sessions that hold both.")
    ] = "vectors",
    exclude: Annotated[  # noqa: ARG001
        list[str] | None, Parameter(description="Never this one; may be repeated.")
    ] = None,
    allow: Annotated[  # noqa: ARG001
        list[str] | None, Parameter(description="These only; may be repeated.")
    ] = None,
    session_id: Annotated[  # noqa: ARG001
        str | None, Parameter(description="Whose session it is, where several bundles are served.")
    ] = None,
) -> Response[SimilarAnswer]:
    """The items most like one."""
    service = service_of(request)
    check_k(k, service.settings.limits)
    asked = SimilarQuery.of(request.scope["query_string"])

    def work(*_: Any) -> SimilarAnswer:
        return similar(service.take(request, asked.session), asked, k, by)

    if len(asked.exclude) + len(asked.allow or ()) > LONG_LIST:
        return json_response(await service.queue.run_aside(work))
    return json_response(await service.queue.run(work))


@get("/v1/items", responses=errors(400, 503), operation_class=operation("find"))
async def find_items(
    request: StrictRequest,
    search: Annotated[  # noqa: ARG001
        str, Parameter(description="What the id holds; of integers, the digits that it begins with.", min_length=1)
    ],
    k: Annotated[int, Parameter(description="How many at most.", ge=1)] = 20,
) -> Response[FoundItems]:
    """Ids that hold a text: the one that is the text first, then in the order of the catalog."""
    service = service_of(request)
    check_k(k, service.settings.limits)
    text = one_of(query_values(request.scope["query_string"]), "search")
    snapshot = service.take(request)

    def work(_: float, check_deadline: Callable[[], None]) -> bytes:
        found = find_ids(snapshot.recommender, text, k, check_deadline)
        return encoded(FoundItems(version=snapshot.version, items=found))

    return Response(await service.queue.run_aside(work), media_type=JSON)  # type: ignore[arg-type]


_CHANGE_ERRORS = errors(400, 401, 403, 408, 409, 413, 503)


@post(
    "/admin/items/add", status_code=200, responses=_CHANGE_ERRORS, operation_class=operation("add_items"),
    guards=[admin_only],
)  # fmt: skip
async def add_items(request: StrictRequest, data: Annotated[AddItemsRequest, Body()]) -> Response[ItemsAnswer]:
    """Add items to the catalog, with neighbors or vectors. When this is answered they are kept; within a second every
    worker recommends them. Needs the bearer token, and a service that learns."""
    vectors = None if data.vectors is None else _matrix(data.vectors)
    return await _changed(
        request, lambda recommender: recommender.add_items(data.items, vectors=vectors, neighbors=data.neighbors)
    )


@post(
    "/admin/items/remove", status_code=200, responses=_CHANGE_ERRORS, operation_class=operation("remove_items"),
    guards=[admin_only],
)  # fmt: skip
async def remove_items(request: StrictRequest, data: Annotated[RemoveItemsRequest, Body()]) -> Response[ItemsAnswer]:
    """Never again recommend some items; as clicks they stay known. Kept and told as items that are added."""
    return await _changed(request, lambda recommender: recommender.remove_items(data.items))


async def _changed(request: StrictRequest, change: Callable[[Recommender], None]) -> Response[ItemsAnswer]:
    service = service_of(request)
    if not service.learns:
        raise ServiceError(
            409,
            "not_learning",
            "what comes and goes is kept with what the service learns; start it with --learn FOLDER",
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
    """float64[M, d]. Raises ServiceError where the rows are not of one length."""
    if len({len(row) for row in rows}) > 1:
        raise ServiceError(
            409, "items_refused", "the vectors are not of one length; send as many numbers for each item"
        )
    return np.array(rows, dtype=np.float64)
