"""The routes that operate the service: health, metrics, reload, the playground."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

from litestar import Response, get, post

from mtaw_fast.errors import MtawError
from mtaw_fast.service.answers import json_response
from mtaw_fast.service.decoding import StrictRequest
from mtaw_fast.service.messages import HealthAnswer, ReloadAnswer
from mtaw_fast.service.metrics import CONTENT_TYPE
from mtaw_fast.service.openapi import errors, operation
from mtaw_fast.service.problems import ServiceError, unavailable
from mtaw_fast.service.state import service_of

_PLAYGROUND = Path(__file__).with_name("playground")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


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


@post("/admin/reload", status_code=200, responses=errors(401, 409), operation_class=operation("reload"))
async def reload(request: StrictRequest) -> Response[ReloadAnswer]:
    """Look for a new bundle now, in every worker. Needs the bearer token."""
    service = service_of(request)
    assert service.settings.token is not None
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), service.settings.token.encode()):
        raise ServiceError(
            401, "unauthorized", "send 'Authorization: Bearer' with the token that the service was given"
        )
    service.reloader.ask_all()
    try:
        result = await service.reloader.look()
    except MtawError as error:
        raise ServiceError(409, "bundle_refused", f"{error}; the old bundle goes on") from None
    version = service.take(request).version
    return json_response(ReloadAnswer(version=version, result=result, workers=service.metrics.workers()))


def playground_routes() -> list[Any]:
    """The page at / and what it needs, read once."""
    return [
        _page("/", "index.html", "text/html"),
        _page("/playground.js", "playground.js", "text/javascript"),
        _page("/playground.css", "playground.css", "text/css"),
    ]


def _page(path: str, name: str, media_type: str) -> Any:
    content = (_PLAYGROUND / name).read_bytes()
    headers = {
        "content-security-policy": _POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }

    @get(path, include_in_schema=False, name=name)
    async def page() -> Response[bytes]:
        return Response(content, media_type=media_type, headers=headers)

    return page
