"""Who may send a request: web pages by their origin, operators by the service's token.

A page of another site must not click in its reader's name. Without asking the service, a browser sends a page's POST
only with the content types that HTML forms have. For any other type it asks first (a CORS preflight), and this service
allows that to the origins of `--cors-origin` alone.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from litestar import Request
from litestar.connection import ASGIConnection

from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.state import service_of

_PREFLIGHTED = "application/json"
_CORS_PATHS = "/v1/"  # no page may operate the service
_METHODS = b"GET, POST, DELETE"
_HEADERS = b"content-type"
_READABLE = b"x-bundle-version, retry-after"
_MAX_AGE = b"600"  # seconds that a browser may remember a preflight

Headers = list[tuple[bytes, bytes]]


class Cors:
    """The CORS headers of responses. origins: those allowed, in lower case, as browsers write them."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, scope: Any) -> Headers:
        """Return the headers of every response to the request of an ASGI scope."""
        if not scope["path"].startswith(_CORS_PATHS):
            return []
        origin = _header(scope, b"origin")
        if origin is None or origin.lower() not in self._origins:
            return [(b"vary", b"Origin")]
        return [
            (b"vary", b"Origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _READABLE),
        ]

    def preflight(self, scope: Any) -> Headers | None:
        """Return the headers that answer an allowed preflight; None for any other request.

        They do not depend on whether the route exists: the request itself shows that.
        """
        if (
            scope["method"] != "OPTIONS"
            or not scope["path"].startswith(_CORS_PATHS)
            or _header(scope, b"access-control-request-method") is None
            or (_header(scope, b"origin") or b"").lower() not in self._origins
        ):
            return None
        return [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _HEADERS),
            (b"access-control-max-age", _MAX_AGE),
        ]


def _header(scope: Any, header_name: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == header_name), None)


def check_origin(origin: str | None, host: str, content_type: str, own_names: Collection[str]) -> None:
    """Refuse a request that a page of another site may have sent.

    Parameters
    ----------
    origin, host, content_type : str
        The request's headers. A missing origin is None, the others are then empty.
    own_names : Collection[str]
        Host names of the service in lower case, in addition to `localhost` and every numeric address.

    Raises
    ------
    ServiceError
        403 `foreign_origin` if the origin is not the host that the request was sent to. 403 `foreign_host` if the
        body is not declared as JSON and the host name is not the service's: a page can point a name of its own here.
    """
    if origin is not None and _authority(origin) != host.lower():
        raise ServiceError(403, "foreign_origin", "a page of another origin may not click; send it from your own host")
    if content_type.partition(";")[0].strip().lower() != _PREFLIGHTED and not _is_own(host, own_names):
        raise ServiceError(
            403, "foreign_host",
            "the Host is not known; send Content-Type: application/json, or start with --trusted-host and its name",
        )  # fmt: skip


def check_request_origin(request: Request[Any, Any, Any], settings: Settings) -> None:
    """Apply `check_origin` to a request; pages of `settings.cors_origins` may click.

    A request without a body counts as one that is declared as JSON.
    """
    header = request.headers.get
    if (header("origin") or "").lower() in settings.cors_origins:
        return
    kind = header("content-type", "") if request.method == "POST" else _PREFLIGHTED
    check_origin(header("origin"), header("host", ""), kind, settings.own_names)


def _authority(origin: str) -> str | None:
    """Return host and port of an origin in lower case; None for one without a host ('null')."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() or None


def _is_own(host: str, own_names: Collection[str]) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if name == "localhost" or name in own_names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def has_token(scope: Any, settings: Settings) -> bool:
    """Return whether the request of an ASGI scope carries the service's token."""
    scheme, _, sent_token = (_header(scope, b"authorization") or b"").partition(b" ")
    token = settings.token
    return token is not None and scheme.lower() == b"bearer" and hmac.compare_digest(sent_token.strip(), token.encode())


def admin_only(request: ASGIConnection[Any, Any, Any, Any], _: Any) -> None:
    """Refuse a request without the service's token. A Litestar guard: it runs before the body is read.

    Raises ServiceError: 403 if the service has no token, 401 if the request's token is missing or wrong.
    """
    settings = service_of(request).settings
    if settings.token is None:
        raise ServiceError(
            403, "no_admin_token", "this service has no token; start it with --admin-token-file or $MTAW_ADMIN_TOKEN"
        )
    if not has_token(request.scope, settings):
        raise ServiceError(401, "unauthorized", "send 'Authorization: Bearer' with the token of the service")
