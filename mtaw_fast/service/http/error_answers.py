"""Whatever went wrong with a request, as the one kind of error answer."""

from __future__ import annotations

import logging
from typing import Any

from litestar.exceptions import HTTPException, ValidationException

from mtaw_fast.errors import ItemTypeError, UsageError
from mtaw_fast.service.http.answers import encoded
from mtaw_fast.service.http.problems import ServiceError, one_line
from mtaw_fast.service.routes.messages import ErrorAnswer, ErrorDetail
from mtaw_fast.service.state import Service

_LOG = logging.getLogger("mtaw_fast.service")
_CODES = {404: "not_found", 405: "method_not_allowed"}


def error_answer(scope: Any, error: Exception, service: Service) -> tuple[int, bytes, dict[str, str]]:
    """Status, JSON and headers of the answer to the request of an ASGI scope."""
    problem = _problem_of(scope, error)
    headers = dict(problem.headers)
    if isinstance(error, HTTPException) and error.headers and "allow" in error.headers:
        headers["Allow"] = error.headers["allow"]
    detail = ErrorDetail(code=problem.code, message=one_line(str(problem)))
    return problem.status, encoded(ErrorAnswer(error=detail, version=service.version_for(scope))), headers


def _problem_of(scope: Any, error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, ItemTypeError):
        return ServiceError(400, "invalid_item", str(error))
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
    _LOG.error("internal_error", exc_info=error, extra={"fields": {"route": scope.get("path_template", "")}})
    return ServiceError(500, "internal", "the service failed; its log says where")
