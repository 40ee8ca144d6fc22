"""Pages of other origins that may read answers, those that `--cors-origin` names: what a browser is told of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

_PATHS = "/v1/"  # no page is to operate the service
_METHODS = b"GET, POST, DELETE"
_HEADERS = b"content-type"
_READABLE = b"x-bundle-version, retry-after"
_MAX_AGE = b"600"  # seconds that a browser may remember what it was allowed

Headers = list[tuple[bytes, bytes]]


class Cors:
    """What to say to whom. origins: in lower case, as browsers write them."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, scope: Any) -> Headers:
        """What every answer to the request of an ASGI scope says."""
        if not scope["path"].startswith(_PATHS):
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
        """The answer to a browser that asks whether its page may ask; None where it is another request.

        Whether there is such a route is not told: the request itself will find out.
        """
        if (
            scope["method"] != "OPTIONS"
            or not scope["path"].startswith(_PATHS)
            or _header(scope, b"access-control-request-method") is None
            or (_header(scope, b"origin") or b"").lower() not in self._origins
        ):
            return None
        return [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _HEADERS),
            (b"access-control-max-age", _MAX_AGE),
        ]


def _header(scope: Any, wanted: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == wanted), None)
