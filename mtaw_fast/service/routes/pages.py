"""The web pages of the service: the playground, the API reference, what a shop watches, and the experiment.

The pages load nothing from other hosts, except the pictures that the item table names in a public column.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from litestar import Response, get

from mtaw_fast.service.errors import invalid, unavailable
from mtaw_fast.service.http.access import admin_only
from mtaw_fast.service.http.bodies import StrictRequest
from mtaw_fast.service.http.responses import JSON
from mtaw_fast.service.routes.items import one_of, query_values
from mtaw_fast.service.state import Service, service_of

_OPTIONS = (
    "metric", "control", "shares", "planned", "alpha", "power", "effect", "since", "until", "window", "placement",
    "arms",
)  # fmt: skip
_FRESH = 30.0  # seconds that a result is kept
_MAX_KEPT = 16
_PATIENCE = 300.0  # seconds for reading the log
_NICENESS = 10
_PASSWORD_VARIABLE = "MTAW_REDIS_PASSWORD"

_PAGES = Path(__file__).with_name("static")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data: https: http:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}

_results: dict[tuple[str, ...], tuple[float, bytes]] = {}
_reading = asyncio.Lock()


def page_routes() -> list[Any]:
    """Return the routes of the pages, and of the files that they load."""
    names = {"/": "playground.html", "/docs": "docs.html", "/watch": "watch.html", "/experiment": "experiment.html"}
    names |= {f"/{path.name}": path.name for path in sorted(_PAGES.iterdir()) if path.suffix in (".js", ".css")}
    return [_page(path, name) for path, name in names.items()]


def _page(path: str, name: str) -> Any:
    content = (_PAGES / name).read_bytes()
    headers = {
        "content-security-policy": _POLICY,
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }

    @get(path, include_in_schema=False, name=name)
    async def page() -> Response[bytes]:
        return Response(content, media_type=_TYPES[Path(name).suffix], headers=headers)

    return page


@get("/admin/experiment", include_in_schema=False, guards=[admin_only])
async def experiment(request: StrictRequest) -> Response[bytes]:
    """Return what `mtaw-fast experiment --json` says of the service's own feedback; the query has its options."""
    service = service_of(request)
    values = query_values(request.scope["query_string"])
    unknown = set(values) - set(_OPTIONS)
    if unknown:
        raise invalid("invalid_request", f"there is no option {min(unknown)[:40]!r}; see 'mtaw-fast experiment --help'")
    options = tuple(f"--{name}={one_of(values, name)}" for name in _OPTIONS if values.get(name, [""]) != [""])
    if any("\0" in option for option in options):  # no command line can hold it
        raise invalid("invalid_request", "an option has a zero byte; leave it out")
    async with _reading:  # one log at a time
        result = _results.get(options)
        if result is None or time.monotonic() - result[0] > _FRESH:
            body = await _read(service, options)
            while len(_results) >= _MAX_KEPT:
                del _results[next(iter(_results))]
            result = _results[options] = time.monotonic(), body
    return Response(result[1], media_type=JSON)


async def _read(service: Service, options: tuple[str, ...]) -> bytes:
    """Read the log in a process of its own, so that rankings do not wait for it."""
    location: Any = service.settings.feedback
    command = [sys.executable, "-m", "mtaw_fast", "experiment", location, "--json", *options]
    environment = dict(os.environ)
    if service.settings.sessions_password is not None:
        environment[_PASSWORD_VARIABLE] = service.settings.sessions_password
    process = await asyncio.create_subprocess_exec(
        "nice", "-n", str(_NICENESS), *command,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        output, error = await asyncio.wait_for(process.communicate(), _PATIENCE)
    except TimeoutError:
        raise unavailable("overloaded", f"the log was not read within {_PATIENCE:.0f} s; use the command") from None
    finally:  # also if the service stops
        if process.returncode is None:
            process.kill()
    if process.returncode:
        lines = error.decode(errors="replace").strip().splitlines() or ["the log could not be read"]
        raise invalid("invalid_request", lines[-1].removeprefix("mtaw-fast: "))
    return output
