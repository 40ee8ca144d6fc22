"""The routes that operate the service: health, metrics, reload."""

from __future__ import annotations

from litestar import Response, get, post

from mtaw_fast.errors import MtawError
from mtaw_fast.service.http.answers import json_response
from mtaw_fast.service.http.decoding import StrictRequest
from mtaw_fast.service.http.openapi import errors, operation
from mtaw_fast.service.http.problems import ServiceError, unavailable
from mtaw_fast.service.observability.metrics import CONTENT_TYPE
from mtaw_fast.service.reload import Looked
from mtaw_fast.service.routes.admin_token import admin_only
from mtaw_fast.service.routes.messages import HealthAnswer, ReloadAnswer
from mtaw_fast.service.state import service_of


@get("/healthz", operation_class=operation("health"))
async def healthz(request: StrictRequest) -> Response[HealthAnswer]:
    """The worker's event loop answers."""
    return json_response(HealthAnswer(version=service_of(request).take(request).version, status="ok"))


@get("/readyz", responses=errors(503), operation_class=operation("ready"))
async def readyz(request: StrictRequest) -> Response[HealthAnswer]:
    """A bundle is loaded and the worker takes requests."""
    service = service_of(request)
    if service.stopping:
        raise unavailable("not_ready", "the worker is shutting down; ask another one")
    return json_response(HealthAnswer(version=service.take(request).version, status="ready"))


@get("/metrics", operation_class=operation("metrics"), media_type="text/plain")
async def metrics(request: StrictRequest) -> Response[str]:
    """Prometheus' text format, added up over all workers."""
    service = service_of(request)
    service.gauge()
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


@post(
    "/admin/reload", status_code=200, responses=errors(401, 403, 409), operation_class=operation("reload"),
    guards=[admin_only],
)  # fmt: skip
async def reload(request: StrictRequest) -> Response[ReloadAnswer]:
    """Look for a new bundle now, in every worker. Needs the bearer token."""
    service = service_of(request)
    results: set[Looked] = set()
    refused: list[MtawError] = []
    service.metrics.counters.ask_to_look()
    for reloader in service.bundles:
        reloader.heed()
    for reloader in service.bundles:
        try:
            results.add(await reloader.look())
        except MtawError as error:
            refused.append(error)
    if refused:
        raise ServiceError(409, "bundle_refused", f"{refused[0]}; the old bundle goes on")
    result: Looked = "loaded" if "loaded" in results else "unchanged"
    version = service.take(request).version
    return json_response(ReloadAnswer(version=version, result=result, workers=service.metrics.workers()))
