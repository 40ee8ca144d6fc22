"""JSON responses: answers, and the one form that every error takes."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from litestar import Response
from litestar.exceptions import HTTPException, ValidationException

from mtaw_fast.errors import ItemTypeError, UsageError
from mtaw_fast.rules import MisfitRulesError
from mtaw_fast.service.errors import ErrorAnswer, ErrorDetail, ServiceError, one_line
from mtaw_fast.service.http.access import has_token
from mtaw_fast.service.json_codec import encoded
from mtaw_fast.service.state import Service

JSON = "application/json"
_LOG = logging.getLogger("mtaw_fast.service")
_CODES = {404: "not_found", 405: "method_not_allowed"}


def json_response(answer: msgspec.Struct, status: int = 200) -> Response[Any]:
    """Return a response with an answer."""
    return Response(encoded(answer), media_type=JSON, status_code=status)


def error_answer(scope: Any, error: Exception, service: Service) -> tuple[int, bytes, dict[str, str]]:
    """Return status, JSON and headers of the response to a failed request. scope: ASGI's, of the request."""
    problem = _problem_of(scope, error, service)
    headers = dict(problem.headers)
    if isinstance(error, HTTPException) and error.headers and "allow" in error.headers:
        headers["Allow"] = error.headers["allow"].replace("GET", "GET, HEAD")  # see `Middleware`
    detail = ErrorDetail(code=problem.code, message=one_line(str(problem)))
    return problem.status, encoded(ErrorAnswer(error=detail, version=service.version_for(scope))), headers


def _problem_of(scope: Any, error: Exception, service: Service) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, MisfitRulesError) and not has_token(scope, service.settings):
        message = "the placement's rules do not fit the items; GET /admin/placements says why, with the token"
        return ServiceError(400, "invalid_request", message)
    if isinstance(error, ItemTypeError):
        return ServiceError(400, "invalid_item", str(error))
    if isinstance(error, UsageError):
        return ServiceError(400, "invalid_request", str(error))
    if isinstance(error, ValidationException):
        details = [
            f"{entry.get('key', 'request')}: {entry['message']}"
            for entry in error.extra or []
            if isinstance(entry, dict)
        ]
        return ServiceError(400, "invalid_request", f"{'; '.join(details) or error.detail}; see /openapi.json")
    if isinstance(error, HTTPException) and error.status_code < 500:
        code = _CODES.get(error.status_code, "invalid_request")
        return ServiceError(error.status_code, code, f"{error.detail}; /openapi.json lists the routes")
    _LOG.error("internal_error", exc_info=error, extra={"fields": {"route": scope.get("path_template", "")}})
    return ServiceError(500, "internal", "the service failed; its log says where")
