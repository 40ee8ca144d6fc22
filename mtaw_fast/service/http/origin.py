"""Whether a request may come from a web page that is not the service's own: such a page must not click for its reader.

A browser sends a page's POST anywhere without asking, as long as its content type is one that forms have always had;
for any other it asks first, and this service allows it to those of `--cors-origin` alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from litestar import Request

from mtaw_fast.service.http.problems import ServiceError
from mtaw_fast.service.settings import Settings

_ASKED_FIRST = "application/json"


def check_origin(origin: str | None, host: str, content_type: str, own_names: Collection[str]) -> None:
    """Raise ServiceError (403) for what a foreign page can send.

    Parameters
    ----------
    origin, host, content_type : str
        The request's headers; origin None and the others empty where they are absent.
    own_names : Collection[str]
        Host names, in lower case, that are the service's own beside `localhost` and every numeric address.

    Raises
    ------
    ServiceError
        `foreign_origin` where the origin is another host than the one that the request was sent to. `foreign_host`
        where the body is not declared to be JSON and the host has a name that is not the service's: a page can let a
        name of its own point here.
    """
    if origin is not None and _authority(origin) != host.lower():
        raise ServiceError(403, "foreign_origin", "a page of another origin may not click; send it from your own host")
    if content_type.partition(";")[0].strip().lower() != _ASKED_FIRST and not _is_own(host, own_names):
        raise ServiceError(
            403, "foreign_host",
            "the Host is not known; send Content-Type: application/json, or start with --trusted-host and its name",
        )  # fmt: skip


def check_request_origin(request: Request[Any, Any, Any], settings: Settings) -> None:
    """`check_origin` with a request's headers; one without a body is taken for one that is declared to be JSON.

    Pages of `settings.cors_origins` may click.
    """
    header = request.headers.get
    if (header("origin") or "").lower() in settings.cors_origins:
        return
    kind = header("content-type", "") if request.method == "POST" else _ASKED_FIRST
    check_origin(header("origin"), header("host", ""), kind, settings.own_names)


def _authority(origin: str) -> str | None:
    """Host and port of an origin in lower case; None of one that has none ('null')."""
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
