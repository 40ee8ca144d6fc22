"""Who may operate the service: whoever has its token."""

from __future__ import annotations

import hmac
from typing import Any

from litestar.connection import ASGIConnection

from mtaw_fast.service.http.problems import ServiceError
from mtaw_fast.service.state import service_of


def admin_only(request: ASGIConnection[Any, Any, Any, Any], _: Any) -> None:
    """A guard of Litestar's, which comes before the body is read.

    Raises ServiceError: 403 where the service was given no token, 401 where the request has not got it.
    """
    token = service_of(request).settings.token
    if token is None:
        raise ServiceError(
            403,
            "no_admin_token",
            "this service was given no token; start it with --admin-token-file or $MTAW_ADMIN_TOKEN",
        )
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise ServiceError(
            401, "unauthorized", "send 'Authorization: Bearer' with the token that the service was given"
        )
