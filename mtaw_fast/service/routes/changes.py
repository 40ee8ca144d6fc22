"""The routes of what is kept with the log: the catalog, availability and the item table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import numpy as np
from litestar import Response, get, patch, post, put
from litestar.params import Body

from mtaw_fast.errors import DataError, LearnError, UsageError
from mtaw_fast.items import ItemsReport
from mtaw_fast.items.changes import Mode
from mtaw_fast.service import arms
from mtaw_fast.service.errors import ServiceError, unavailable
from mtaw_fast.service.http.access import admin_only
from mtaw_fast.service.http.bodies import StrictRequest
from mtaw_fast.service.http.responses import json_response
from mtaw_fast.service.resources import in_background
from mtaw_fast.service.routes.answers import (
    ColumnAnswer,
    ItemsAnswer,
    ItemTableAnswer,
    NewItemAnswer,
    NewItemsAnswer,
)
from mtaw_fast.service.routes.openapi import errors, operation
from mtaw_fast.service.routes.requests import (
    AddItemsRequest,
    HideItemsRequest,
    ItemTableRequest,
    RemoveItemsRequest,
)
from mtaw_fast.service.snapshot import Snapshot
from mtaw_fast.service.state import Service, service_of

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
    return await _catalog_change(request, lambda bundles: arms.add_items(bundles, data.items, vectors, data.neighbors))


@get("/admin/items/new", responses=errors(401, 403, 503), operation_class=operation("new_items"), guards=[admin_only])
async def new_items(request: StrictRequest) -> Response[NewItemsAnswer]:
    """Return how often new items were shown and clicked, and which are still explored. Needs the bearer token."""
    service = service_of(request)
    snapshot = service.take(request)
    rows = snapshot.recommender.new_items(service.settings.explore_below)
    return json_response(
        NewItemsAnswer(version=snapshot.version, items=[NewItemAnswer(**row._asdict()) for row in rows])
    )


@post(
    "/admin/items/remove", status_code=200, responses=_CHANGE_ERRORS, operation_class=operation("remove_items"),
    guards=[admin_only],
)  # fmt: skip
async def remove_items(request: StrictRequest, data: Annotated[RemoveItemsRequest, Body()]) -> Response[ItemsAnswer]:
    """Stop recommending items; they stay known as clicks. The change is stored as that of /admin/items/add."""
    return await _catalog_change(request, lambda bundles: arms.remove_items(bundles, data.items))


@post(
    "/admin/items/hide", status_code=200, responses=_CHANGE_ERRORS, operation_class=operation("hide_items"),
    guards=[admin_only],
)  # fmt: skip
async def hide_items(request: StrictRequest, data: Annotated[HideItemsRequest, Body()]) -> Response[ItemsAnswer]:
    """Stop recommending items until they are shown again; nothing that was learned is lost.

    Once this answers it is stored; within a second every worker knows. Needs the bearer token, and a service with
    --learn or --state.
    """
    return await _stored_change(request, lambda bundles: bundles[0].recommender.hide(data.items))


@post(
    "/admin/items/show", status_code=200, responses=_CHANGE_ERRORS, operation_class=operation("show_items"),
    guards=[admin_only],
)  # fmt: skip
async def show_items(request: StrictRequest, data: Annotated[HideItemsRequest, Body()]) -> Response[ItemsAnswer]:
    """Recommend hidden items again. The change is stored as that of /admin/items/hide."""
    return await _stored_change(request, lambda bundles: bundles[0].recommender.show(data.items))


@put("/admin/items", responses=_CHANGE_ERRORS, operation_class=operation("put_items"), guards=[admin_only])
async def put_items(request: StrictRequest, data: Annotated[ItemTableRequest, Body()]) -> Response[ItemTableAnswer]:
    """Replace the item table. The change is stored as that of /admin/items/hide."""
    return await _item_table_change(request, data, "replace")


@patch("/admin/items", responses=_CHANGE_ERRORS, operation_class=operation("patch_items"), guards=[admin_only])
async def patch_items(request: StrictRequest, data: Annotated[ItemTableRequest, Body()]) -> Response[ItemTableAnswer]:
    """Change the given values of the item table alone. The change is stored as that of /admin/items/hide."""
    return await _item_table_change(request, data, "patch")


async def _stored_change(request: StrictRequest, change: Callable[[list[Snapshot]], None]) -> Response[ItemsAnswer]:
    snapshot, position, _ = await stored(request, change)
    items = snapshot.recommender.n_items
    return json_response(ItemsAnswer(version=snapshot.version, items=items, log_position=position))


async def _item_table_change(request: StrictRequest, data: ItemTableRequest, mode: Mode) -> Response[ItemTableAnswer]:
    def change(bundles: list[Snapshot]) -> ItemsReport:
        return arms.set_items(
            bundles, data.items, mode, id=data.id, kinds=data.kinds, public=data.public, availability=data.availability
        )

    snapshot, position, report = await stored(request, change)
    answer = ItemTableAnswer(
        version=snapshot.version,
        items=snapshot.recommender.n_items,
        log_position=position,
        rows=report.rows,
        known=report.known,
        columns=[
            ColumnAnswer(name=column.name, kind=column.kind, public=column.public, missing=column.missing)
            for column in report.columns
        ],
        notes=list(report.notes),
    )
    return json_response(answer)


async def _catalog_change(request: StrictRequest, change: Callable[[list[Snapshot]], None]) -> Response[ItemsAnswer]:
    service = service_of(request)
    if not service.learns:
        raise ServiceError(
            409,
            "not_learning",
            "changes of the catalog are kept in the log of learning; start the service with --learn FOLDER",
        )
    return await _stored_change(request, change)


def check_stores(service: Service) -> None:
    """Raise ServiceError (409) if the service has no place for changes of the item table and of placements."""
    if not service.learns and service.settings.state is None:
        raise ServiceError(
            409, "not_kept_here", "this service keeps no changes; start it with --state FOLDER or --learn FOLDER"
        )


Result = TypeVar("Result")


async def stored(
    request: StrictRequest, change: Callable[[list[Snapshot]], Result], refused: str = "items_refused"
) -> tuple[Snapshot, str, Result]:
    """Make a change of all bundles in a thread; return the first one, the log's position after it, and its result.

    refused: the code of the error if the change does not fit.
    """
    service = service_of(request)
    check_stores(service)
    snapshot, bundles = service.take(request), service.bundles.snapshots

    def work() -> tuple[str, Result]:
        result = change(bundles)
        arms.catch_up(bundles[1:])
        position = bundles[0].recommender.log_position
        assert position is not None
        return position, result

    try:
        position, result = await in_background(work)
    except (DataError, UsageError) as error:
        raise ServiceError(409, refused, str(error)) from None
    except LearnError as error:
        if service.bundles.snapshots != bundles:  # a reload has closed their log or folder meanwhile
            return await stored(request, change, refused)
        raise unavailable("not_kept", str(error)) from None
    return snapshot, position, result


def _matrix(rows: list[list[float]]) -> np.ndarray:
    """Return the rows as float64[M, d]. Raises ServiceError if their lengths differ."""
    if len({len(row) for row in rows}) > 1:
        raise ServiceError(
            409, "items_refused", "the vectors have different lengths; send the same number of values for each item"
        )
    return np.array(rows, dtype=np.float64)
