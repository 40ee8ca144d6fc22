"""The ASGI app of a worker: its routes, how errors are answered, and what holds for all of them."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.exceptions import HTTPException, ValidationException

from mtaw_fast.errors import UsageError
from mtaw_fast.service import operations, routes
from mtaw_fast.service.answers import JSON, encoded
from mtaw_fast.service.decoding import StrictRequest
from mtaw_fast.service.messages import ErrorAnswer, ErrorDetail
from mtaw_fast.service.middleware import Middleware
from mtaw_fast.service.openapi import openapi_config
from mtaw_fast.service.openapi_limits import state_limits
from mtaw_fast.service.problems import ServiceError, one_line
from mtaw_fast.service.state import Service, service_of

_LOG = logging.getLogger("mtaw_fast.service")
_CODES = {404: "not_found", 405: "method_not_allowed"}


def make_app(service: Service) -> Middleware:
    """The app, with the routes that the settings ask for."""
    handlers: list[Any] = [
        routes.recommend,
        routes.recommend_batch,
        routes.similar_items,
        routes.bundle,
        operations.healthz,
        operations.readyz,
        operations.metrics,
        *operations.playground_routes(),
        _openapi,
    ]
    if service.sessions is not None:
        handlers.append(routes.click)
    if service.settings.token is not None:
        handlers.append(operations.reload)
    app = Litestar(
        handlers,
        request_class=StrictRequest,
        state=State({"service": service, "openapi": _document(handlers, service)}),
        exception_handlers={Exception: _failed},
        openapi_config=None,
        logging_config=None,
    )
    return Middleware(app, service)


def _document(handlers: list[Any], service: Service) -> bytes:
    """The OpenAPI document, from an app of its own: one that describes itself also serves pages that load from CDNs."""
    document = Litestar(
        handlers, request_class=StrictRequest, openapi_config=openapi_config(), logging_config=None
    ).openapi_schema.to_schema()
    state_limits(document, service.settings.limits)
    return msgspec.json.encode(document)


@get("/openapi.json", include_in_schema=False)
async def _openapi(request: StrictRequest) -> Response[bytes]:
    """The OpenAPI document."""
    return Response(request.app.state.openapi, media_type=JSON)


def _failed(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Any error as the one kind of error answer."""
    problem = _problem_of(request, error)
    headers = dict(problem.headers)
    if isinstance(error, HTTPException) and error.headers and "allow" in error.headers:
        headers["Allow"] = error.headers["allow"]
    version = service_of(request).version_for(request.scope)
    answer = ErrorAnswer(error=ErrorDetail(code=problem.code, message=one_line(str(problem))), version=version)
    return Response(encoded(answer), status_code=problem.status, media_type=JSON, headers=headers)


def _problem_of(request: Request[Any, Any, Any], error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, UsageError):
        return ServiceError(400, "invalid_request", str(error))
    if isinstance(error, ValidationException):
        details = [
            f"{one.get('key', 'request')}: {one['message']}" for one in error.extra or [] if isinstance(one, dict)
        ]
        return ServiceError(400, "invalid_request", f"{'; '.join(details) or error.detail}; see /openapi.json")
    if isinstance(error, HTTPException) and error.status_code < 500:
        code = _CODES.get(error.status_code, "invalid_request")
        return ServiceError(error.status_code, code, f"{error.detail}; see /openapi.json for what there is")
    _LOG.error("internal_error", exc_info=error, extra={"fields": {"route": request.scope.get("path_template", "")}})
    return ServiceError(500, "internal", "the service failed; its log says where")
