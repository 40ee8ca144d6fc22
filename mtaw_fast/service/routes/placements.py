"""The routes of placements: the rule sets that requests get by where their list will stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, put
from litestar.params import Body, Parameter

from mtaw_fast.errors import LearnError
from mtaw_fast.items.placements import Placements, Revision
from mtaw_fast.rules.placement import NAME
from mtaw_fast.service import arms
from mtaw_fast.service.errors import ServiceError, invalid, unavailable
from mtaw_fast.service.http.access import admin_only
from mtaw_fast.service.http.bodies import StrictRequest
from mtaw_fast.service.http.responses import json_response
from mtaw_fast.service.resources import in_background
from mtaw_fast.service.routes.answers import PlacementAnswer, PlacementsAnswer, PlacementSetAnswer, RevisionAnswer
from mtaw_fast.service.routes.changes import check_stores, stored
from mtaw_fast.service.routes.openapi import errors, operation
from mtaw_fast.service.routes.requests import PlacementRequest
from mtaw_fast.service.state import service_of

_PATH = "/admin/placements/{name:str}"
_ERRORS = errors(400, 401, 403, 404, 408, 409, 413, 503)
_Name = Annotated[str, Parameter(pattern=f"^{NAME}$", description="The name of the placement.")]


@put(_PATH, responses=_ERRORS, operation_class=operation("put_placement"), guards=[admin_only])
async def put_placement(
    request: StrictRequest, name: _Name, data: Annotated[PlacementRequest, Body()]
) -> Response[PlacementSetAnswer]:
    """Set the rules of a placement, for the field `placement` of rankings; they may use private columns.

    Once this answers they are stored with the item table; within a second every worker knows them. Needs the bearer
    token, and a service with --learn or --state.
    """
    if (data.sets is None) == (data.undo_to is None):
        raise invalid("invalid_request", "send either `sets` or `undo_to`; see /openapi.json")
    if data.sets is None:
        return await _changed(request, lambda bundles: arms.undo_placement(bundles, name, data.undo_to))
    content = msgspec.to_builtins(data)
    return await _changed(request, lambda bundles: arms.set_placement(bundles, name, content))


@delete(_PATH, status_code=200, responses=_ERRORS, operation_class=operation("delete_placement"), guards=[admin_only])
async def delete_placement(request: StrictRequest, name: _Name) -> Response[PlacementSetAnswer]:
    """Remove a placement with its history. Stored as its rules are."""
    check_stores(service_of(request))
    await _revisions(request, name)
    return await _changed(request, lambda bundles: arms.set_placement(bundles, name, None))


@get(
    _PATH, responses=errors(400, 401, 403, 404, 503), operation_class=operation("get_placement"), guards=[admin_only]
)  # fmt: skip
async def get_placement(request: StrictRequest, name: _Name) -> Response[PlacementAnswer]:
    """Return a placement with its history, and why its rules are refused if they do not fit the item table any more."""
    revisions = [_revision(revision) for revision in await _revisions(request, name)]
    service = service_of(request)
    broken = arms.broken_placements(service.bundles.snapshots).get(name)
    return json_response(PlacementAnswer(version=service.take(request).version, revisions=revisions, broken=broken))


@get(
    "/admin/placements", responses=errors(401, 403, 503), operation_class=operation("get_placements"),
    guards=[admin_only],
)  # fmt: skip
async def get_placements(request: StrictRequest) -> Response[PlacementsAnswer]:
    """Return all placements as they are now."""
    kept = {name: _revision(revisions[-1]) for name, revisions in sorted((await _latest(request)).items())}
    service = service_of(request)
    broken = arms.broken_placements(service.bundles.snapshots)
    return json_response(PlacementsAnswer(version=service.take(request).version, placements=kept, broken=broken))


def _revision(revision: Revision) -> RevisionAnswer:
    content: Any = revision.content
    return RevisionAnswer(number=revision.number, time=revision.time, content=content)


async def _latest(request: StrictRequest) -> Placements:
    """Return all placements, with what other workers have stored."""
    service = service_of(request)
    try:
        await in_background(lambda: arms.catch_up(service.bundles.snapshots))
    except LearnError as error:
        raise unavailable("not_ready", str(error)) from None
    return service.take(request).recommender.placements


async def _revisions(request: StrictRequest, name: str) -> Sequence[Revision]:
    """Return the revisions of a placement. Raises ServiceError (404) if there is none."""
    revisions = (await _latest(request)).get(name)
    if revisions is None:
        raise ServiceError(404, "unknown_placement", "there is no placement of this name; PUT it first")
    return revisions


async def _changed(request: StrictRequest, change: Any) -> Response[PlacementSetAnswer]:
    snapshot, position, notes = await stored(request, change, "placement_refused")
    return json_response(PlacementSetAnswer(version=snapshot.version, log_position=position, notes=notes))
