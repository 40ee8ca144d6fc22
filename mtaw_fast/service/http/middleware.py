"""What every request gets, whatever its route: the bundle's version in the response, metrics, CORS and logging."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any, NamedTuple

from mtaw_fast.service.errors import invalid, unavailable
from mtaw_fast.service.http.access import Cors, Gate
from mtaw_fast.service.http.bodies import read_body
from mtaw_fast.service.http.request_cycle import RequestCycle
from mtaw_fast.service.http.responses import JSON, error_answer
from mtaw_fast.service.observability.metrics import ROUTES
from mtaw_fast.service.observability.service_log import log_event
from mtaw_fast.service.state import Service

_TEMPLATES = {route.replace("{id}", "{session_id}"): route for route in ROUTES}
_JSON = JSON.encode()
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_DOTS = {b".", b".."}
_ENCODED = b"/v1/sessions/"  # below it, a segment may be any id

_HEAD = (
    b"content-type: application/json\r\ncontent-length: %d\r\nx-content-type-options: nosniff\r\n"
    b"x-bundle-version: %b\r\n"
)

_SHORT = 4096  # bytes of a body that is answered without a task


class Direct(NamedTuple):
    """What answers a POST without the framework: service, ASGI scope and body give the JSON of the answer.

    now: returns None, and has changed nothing, if the request has to wait; then `later` gets the same.
    """

    now: Callable[[Service, Any, bytes], bytes | None]
    later: Callable[[Service, Any, bytes], Awaitable[bytes]]


class Middleware:
    """The outermost ASGI app.

    direct: answers to POST by raw path that bypass the framework, which takes a third of a short request's time.
    """

    def __init__(self, app: Any, service: Service, direct: Mapping[bytes, Direct]) -> None:
        self._app, self._service, self._direct = app, service, direct
        self._log = service.settings.access_log
        self._problem = Gate(service.settings).problem
        self._cors = Cors(service.settings.cors_origins) if service.settings.cors_origins else None

    def answer_at_once(self, cycle: RequestCycle) -> bool:
        """Answer a short request without a task; return False, and change nothing, if it has to wait.

        A task and its coroutines would add 4 to 5 us to about 85 (3,000 items, 2026-12-02).
        """
        start, service = perf_counter(), self._service
        scope: Any = cycle.scope
        direct = self._direct.get(scope["raw_path"])
        if direct is None or scope["method"] != "POST" or self._cors is not None or not service.queue.is_free():
            return False
        body = cycle.arrived(min(_SHORT, service.settings.limits.body))
        if body is None or self._problem(scope) is not None:
            return False
        status, more = 200, b""
        try:
            answer = direct.now(service, scope, body)
            if answer is None:
                return False
        except Exception as error:
            status, answer, headers = error_answer(scope, error, service)
            more = "".join(f"{name.lower()}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
        cycle.respond(_HEAD % (len(answer), service.version_for(scope).encode()) + more, answer, status)
        scope["path_template"] = scope["path"]
        self._ended(scope, "POST", cycle, status, start)
        return True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle a request, and count and log how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, service = perf_counter(), 0, self._service

        async def send_marked(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [
                    *message["headers"], _NO_SNIFFING, (b"x-bundle-version", service.version_for(scope).encode()),
                ]  # fmt: skip
                if self._cors is not None:
                    headers += self._cors.headers(scope)
                if status in (408, 413):  # the rest of the body is not read
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            await send(message)

        method, cycle = scope["method"], _cycle_of(receive)
        direct = self._direct.get(scope["raw_path"]) if method == "POST" else None
        try:
            if (problem := self._problem(scope)) is not None:
                await _respond(send_marked, *error_answer(scope, problem, service))
            elif direct is not None:
                scope["path_template"] = scope["path"]
                await self._answer(direct, scope, cycle, receive, send_marked)
                status = status or 200  # written at once
            elif not _is_canonical(scope["raw_path"]):
                await _respond(send_marked, *error_answer(scope, _ODD_PATH, service))
            elif self._cors is not None and (allowed := self._cors.preflight(scope)) is not None:
                await send_marked({"type": "http.response.start", "status": 204, "headers": allowed})
                await send_marked({"type": "http.response.body", "body": b""})
            else:
                if method == "HEAD":
                    scope = {**scope, "method": "GET"}  # the server, which has the other one, drops the body
                await self._app(scope, receive, send_marked)
        except asyncio.CancelledError:
            if not service.stopping or status:
                raise
            late = unavailable("not_ready", "the service shut down before it answered; try again")
            await _respond(send_marked, *error_answer(scope, late, service))
        finally:
            self._ended(scope, method, cycle, status, start)

    def _ended(self, scope: Any, method: str, cycle: RequestCycle | None, status: int, start: float) -> None:
        """Count and log a request that began at `start`, a time of `perf_counter`."""
        service, seconds = self._service, perf_counter() - start
        if cycle is not None and cycle.disconnected and not cycle.response_complete:
            status = 0  # the client left or was closed, whatever it was answered
        route = _TEMPLATES.get(scope.get("path_template", ""), "other")
        service.metrics.request(route, status, seconds)
        if self._log:
            log_event(
                "request", method=method, route=route, status=status, ms=round(seconds * 1000, 3),
                version=service.version_for(scope),
            )  # fmt: skip

    async def _answer(self, direct: Direct, scope: Any, cycle: RequestCycle | None, receive: Any, send: Any) -> None:
        """Answer without the framework, and if the server's `RequestCycle` allows, without ASGI messages."""
        service = self._service
        response: tuple[int, bytes, Mapping[str, str]]
        try:
            body = None if cycle is None else cycle.whole_body(service.settings.limits.body)
            if body is None:
                length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
                body = await read_body(receive, length.decode("latin-1"), service)
            answer = await direct.later(service, scope, body)
            if cycle is not None and self._cors is None:
                head = _HEAD % (len(answer), service.version_for(scope).encode())
                if cycle.respond(head, answer):
                    return
            response = 200, answer, {}
        except Exception as error:
            response = error_answer(scope, error, service)
        await _respond(send, *response)


def _cycle_of(receive: Any) -> RequestCycle | None:
    """Return the server's cycle of a request; None behind another server."""
    cycle = getattr(receive, "__self__", None)
    return cycle if isinstance(cycle, RequestCycle) else None


_ODD_PATH = invalid(
    "invalid_request", "the path must have no % outside a session id, no empty or dot segment, and no slash at its end"
)


def _is_canonical(path: bytes) -> bool:
    """Return whether a path is the only spelling of itself: the rules of a proxy then apply to what is routed here."""
    # Of a session's path, the id alone may be encoded.
    fixed = path.removeprefix(_ENCODED).partition(b"/")[2] if path.startswith(_ENCODED) else path
    if b"%" in fixed or b"//" in path or (path.endswith(b"/") and path != b"/"):
        return False
    return b"/." not in path or _DOTS.isdisjoint(path.split(b"/"))


async def _respond(send: Any, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    raw_headers = [(b"content-type", _JSON), (b"content-length", b"%d" % len(body))]
    raw_headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw_headers})
    await send({"type": "http.response.body", "body": body})
