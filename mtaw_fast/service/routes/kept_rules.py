"""The routes of rules that are kept by name."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, put
from litestar.params import Body, Parameter

from mtaw_fast.rules.kept import NAME
from mtaw_fast.service import arms
from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.http.access import admin_only
from mtaw_fast.service.http.decoding import StrictRequest
from mtaw_fast.service.http.responses import json_response
from mtaw_fast.service.routes.answers import KeptRulesAnswer, RulesAnswer
from mtaw_fast.service.routes.item_changes import check_stores, stored
from mtaw_fast.service.routes.openapi import errors, operation
from mtaw_fast.service.routes.requests import RulesRequest
from mtaw_fast.service.state import service_of

_PATH = "/admin/rules/{name:str}"
_ERRORS = errors(400, 401, 403, 404, 408, 409, 413, 503)
RulesName = Annotated[str, Parameter(pattern=f"^{NAME}$", description="The name of the rules.")]


@put(_PATH, responses=_ERRORS, operation_class=operation("put_rules"), guards=[admin_only])
async def put_rules(
    request: StrictRequest, name: RulesName, data: Annotated[RulesRequest, Body()]
) -> Response[RulesAnswer]:
    """Keep rules under a name, for the field `rules` of rankings; they may use private columns.

    Once this answers they are stored with the item table; within a second every worker knows them. Needs the bearer
    token, and a service with --learn or --state.
    """
    return await _set_rules(request, name, msgspec.to_builtins(data))


@delete(_PATH, status_code=200, responses=_ERRORS, operation_class=operation("delete_rules"), guards=[admin_only])
async def delete_rules(request: StrictRequest, name: RulesName) -> Response[RulesAnswer]:
    """Remove kept rules. Stored as kept ones are."""
    check_stores(service_of(request))
    _kept_rules(request, name)
    return await _set_rules(request, name, None)


@get(
    _PATH, responses=errors(400, 401, 403, 404, 503), operation_class=operation("get_rules"), guards=[admin_only]
)  # fmt: skip
async def get_rules(request: StrictRequest, name: RulesName) -> Response[KeptRulesAnswer]:
    """Return kept rules, and why they are refused if they do not fit the item table any more."""
    rules = _kept_rules(request, name)
    service = service_of(request)
    broken = arms.broken_rules(service.bundles.snapshots, name)
    return json_response(KeptRulesAnswer(version=service.take(request).version, rules=rules, broken=broken))


def _kept_rules(request: StrictRequest, name: str) -> Any:
    """Return kept rules as they were written. Raises ServiceError (404) if there are none."""
    rules = service_of(request).take(request).recommender.kept_rules.get(name)
    if rules is None:
        raise ServiceError(404, "unknown_rules", "no rules are kept under this name; PUT them first")
    return rules


async def _set_rules(request: StrictRequest, name: str, rules: Any) -> Response[RulesAnswer]:
    snapshot, position, _ = await stored(request, lambda bundles: arms.set_rules(bundles, name, rules), "rules_refused")
    return json_response(RulesAnswer(version=snapshot.version, log_position=position))
