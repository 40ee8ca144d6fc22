"""What holds for every request, whatever the route: it names its bundle's version, is counted, and perhaps logged."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from mtaw_fast.service.answers import JSON, encoded
from mtaw_fast.service.log import log_event
from mtaw_fast.service.messages import ErrorAnswer, ErrorDetail
from mtaw_fast.service.metrics import ROUTES
from mtaw_fast.service.problems import unavailable
from mtaw_fast.service.state import Service

_TEMPLATES = {route.replace("{id}", "{session_id}"): route for route in ROUTES}


class Middleware:
    """The outermost ASGI app."""

    def __init__(self, app: Any, service: Service) -> None:
        self._app, self._service = app, service
        self._log = service.settings.access_log

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, and note how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, service = perf_counter(), 0, self._service

        async def send_marked(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], (b"x-bundle-version", service.version_for(scope).encode())]
                if status in (408, 413):  # the rest of the body is not worth waiting for
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except asyncio.CancelledError:
            if not service.stopping or status:
                raise
            await self._out_of_time(scope, send_marked)
        finally:
            seconds = perf_counter() - start
            route = _TEMPLATES.get(scope.get("path_template", ""), "other")
            service.metrics.request(route, status, seconds)
            if self._log:
                log_event(
                    "request", method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 3),
                    version=service.version_for(scope),
                )  # fmt: skip

    async def _out_of_time(self, scope: Any, send: Any) -> None:
        """Answer a request that was not done at the end of the grace."""
        problem = unavailable("not_ready", "the service shut down before the request was done; try again")
        detail = ErrorDetail(code=problem.code, message=str(problem))
        body = encoded(ErrorAnswer(error=detail, version=self._service.version_for(scope)))
        headers = {"content-type": JSON, "content-length": str(len(body)), **problem.headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": problem.status, "headers": raw})
        await send({"type": "http.response.body", "body": body})
