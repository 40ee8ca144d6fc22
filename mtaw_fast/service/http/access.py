"""Who may send a request: web pages by their host and origin, operators and the shop's own servers by a token.

A page of another site must neither click in its reader's name nor read answers. A browser sends such a page's origin
along, and the routes refuse others than their own and those of `--cors-origin`. A page whose host name is made to point
here has the service's own origin. It betrays itself by that name, so the service answers to names that it knows, and to
addresses, which no page can take.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection

from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.state import service_of

_CHECKED_PATHS = b"/v1/", b"/admin/"  # of the routes that rank, store or change
_FOREIGN_SITES = b"cross-site", b"same-site"  # values of Sec-Fetch-Site, also where a browser sends no Origin
_KNOWN_HOSTS = 256  # Host headers of which the judgment is kept
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


class Gate:
    """Refuses requests by their Host and Origin."""

    def __init__(self, settings: Settings) -> None:
        self._names = settings.own_names
        self._origins = frozenset(origin.encode() for origin in settings.cors_origins)
        self._problem_of_host = lru_cache(_KNOWN_HOSTS)(self._judged)

    def problem(self, scope: Any) -> ServiceError | None:
        """Return why the request of an ASGI scope is refused; None if it is not.

        400 if its Host is not valid. 403 `foreign_host` if that is neither `localhost`, an address, nor a name of the
        service: no browser leaves it out. 403 `foreign_origin` if the request may be that of a page of another
        origin, and its route may rank, store or change.
        """
        header = dict(scope["headers"]).get  # of fields that are repeated, the last
        host, origin = header(b"host"), header(b"origin")
        problem = self._problem_of_host(host) if host else None
        if problem is not None or (origin is None and header(b"sec-fetch-site") not in _FOREIGN_SITES):
            return problem
        path: bytes = scope["raw_path"]
        if not path.startswith(_CHECKED_PATHS) or scope["method"] == "OPTIONS":
            return None
        if origin is not None and origin.lower() in self._origins and path.startswith(_CHECKED_PATHS[0]):
            return None
        if origin is not None and host is not None and _authority(origin) == host.lower():
            return None
        return _FOREIGN_ORIGIN

    def _judged(self, host: bytes) -> ServiceError | None:
        name = name_of_host(host)
        if name is None:
            return _INVALID_HOST
        return None if name == "localhost" or name in self._names or _is_address(name) else _FOREIGN_HOST


_INVALID_HOST = ServiceError(400, "invalid_request", "the Host is not a name or an address, with or without a port")
_FOREIGN_HOST = ServiceError(
    403, "foreign_host", "the service does not know the Host as its name; start it with --trusted-host and that name"
)
_FOREIGN_ORIGIN = ServiceError(
    403, "foreign_origin", "a page of another origin may not do this; send it from your own host, or see --cors-origin"
)


def name_of_host(host: bytes) -> str | None:
    """Return the name or address in a Host header, in lower case and without port; None if it is not valid."""
    try:
        parts = urlsplit(f"//{host.decode('ascii')}")
        name = parts.hostname if parts.port is None or parts.port else None  # the port raises ValueError, too
    except ValueError:
        return None
    if not name or parts.netloc.encode() != host or not _HOST.fullmatch(host):
        return None
    return name.removesuffix(".")


_HOST = re.compile(rb"[\w.~!$&'()*+,;=%:\[\]-]+")  # RFC 3986, 3.2.2 and 3.2.3


def _authority(origin: bytes) -> bytes | None:
    """Return host and port of an origin in lower case; None for one without a host ('null')."""
    return origin.lower().partition(b"://")[2] or None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _has(scope: Any, token: str | None) -> bool:
    """Return whether the request of an ASGI scope carries a token; False if there is none."""
    sent_token = _bearer_token(scope)
    return token is not None and sent_token is not None and hmac.compare_digest(sent_token, token.encode())


def _bearer_token(scope: Any) -> bytes | None:
    scheme, _, token = (_header(scope, b"authorization") or b"").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else None


def has_token(scope: Any, settings: Settings) -> bool:
    """Return whether the request of an ASGI scope carries the service's token."""
    return _has(scope, settings.token)


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


def is_trusted(scope: Any, settings: Settings) -> bool:
    """Return whether the clicks of a request are believed: it has the token of events, or the service's own.

    Raises ServiceError (401) on any other bearer token: its sender would take what happens to open events for a loss.
    """
    if _has(scope, settings.events_token) or has_token(scope, settings):
        return True
    if _bearer_token(scope) is not None:
        raise _NOT_TRUSTED if settings.events_token is not None else _NO_EVENTS_TOKEN
    return False


def may_send_events(request: ASGIConnection[Any, Any, Any, Any], _: Any) -> None:
    """Refuse events that are neither trusted nor open (401). A Litestar guard: it runs before the body is read."""
    settings = service_of(request).settings
    if not is_trusted(request.scope, settings) and not settings.takes_open_events:
        raise _NOT_TRUSTED


_NOT_TRUSTED = ServiceError(401, "unauthorized", "send 'Authorization: Bearer' with the token of events")
_NO_EVENTS_TOKEN = ServiceError(
    401,
    "unauthorized",
    "this service has no token of events; start it with --events-token-file, or send events without Authorization",
)
