"""The routes of learning: events to learn from, and sessions to delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any
from urllib.parse import unquote

from litestar import Response, delete, post
from litestar.connection import ASGIConnection
from litestar.params import Body, Parameter
from litestar.types import ASGIApp

from mtaw_fast.errors import DataError, LearnError
from mtaw_fast.online.log.checked_events import checked_click, forget_of
from mtaw_fast.online.log.events import MAX_TEXT_LENGTH, Event, Forget, now_ms
from mtaw_fast.service.errors import ServiceError, invalid, unavailable
from mtaw_fast.service.http.bodies import StrictRequest
from mtaw_fast.service.http.request_cycle import has_left
from mtaw_fast.service.http.responses import json_response
from mtaw_fast.service.resources import in_background
from mtaw_fast.service.routes.answers import EventsAnswer, ForgetAnswer
from mtaw_fast.service.routes.openapi import errors, operation
from mtaw_fast.service.routes.requests import EventRequest, EventsRequest
from mtaw_fast.service.state import Service, service_of

_SESSIONS = b"/v1/sessions/"
_ON_LOOP = 200  # events that are written on the event loop: about a millisecond
_MAX_LAG_SECONDS, _FEW = 0.5, 10  # an event may have waited so long, while more than 1 / _FEW of the backlog waits
SESSION_ID = r"[A-Za-z0-9._~-]{1,128}"


def _within_backlog(request: ASGIConnection[Any, Any, Any, Any], _: Any) -> None:
    """Refuse events while too many are not learned yet. A Litestar guard: it runs before the body is read."""
    _check_backlog(service_of(request))


@post(
    "/v1/events", status_code=200, responses=errors(400, 403, 408, 413, 503), operation_class=operation("events"),
    guards=[_within_backlog],
)  # fmt: skip
async def events(request: StrictRequest, data: Annotated[EventsRequest, Body()]) -> Response[EventsAnswer]:
    """Learn from clicks. Once this answers they are in the log; within a second every ranking knows them."""
    service = service_of(request)
    _check_backlog(service)  # again: other requests came while the body did
    count = len(data.events)
    position = await _append(service, lambda: _clicks(data.events), count)
    for event in data.events:
        service.watch.clicked(event.session, event.item)
    version = service.take(request).version
    return json_response(EventsAnswer(version=version, accepted=count, log_position=position))


def _check_backlog(service: Service) -> None:
    """Raise ServiceError (503) if learning is behind.

    That is if, for some bundle, more events wait than the setting `max_backlog` allows, or, on a machine that learns
    slowly, if many of them wait and the oldest has waited `_MAX_LAG_SECONDS`.
    """
    for learner in service.learners:
        waiting, limit = learner.follower.lag + service.appending, learner.settings.max_backlog
        if waiting > limit or (_FEW * waiting > limit and learner.follower.lag_seconds > _MAX_LAG_SECONDS):
            service.metrics.add("mtaw_rejected_total", "overloaded")
            raise unavailable(
                "overloaded",
                f"about {waiting} events are not learned yet, and the limit is {limit}; send these again later",
            )


def _clicks(events: Sequence[EventRequest]) -> list[Event]:
    """Return events as clicks. Raises ServiceError (400) if one is invalid."""
    now = now_ms()
    try:
        return [
            checked_click(
                event.session,
                event.item,
                now if event.time is None else event.time,
                event.type,
                event.id,
                event.context,
                where=f"event {number}",
            )
            for number, event in enumerate(events)
        ]
    except DataError as error:
        raise invalid("invalid_event", str(error)) from None


@delete(
    "/v1/sessions/{session_id:str}",
    status_code=200,
    responses=errors(400, 403, 503),
    operation_class=operation("forget"),
)
async def forget(
    request: StrictRequest,
    session_id: Annotated[  # noqa: ARG001 (`_session_in` reads it: Litestar's copy is decoded)
        str,
        Parameter(
            description="The id that its clicks used, percent-encoded.",
            schema_extra={"minLength": 1, "maxLength": MAX_TEXT_LENGTH},
        ),
    ],
) -> Response[ForgetAnswer]:
    """Delete a session: what every worker learned from it, its feedback, and the copy that the service keeps."""
    service = service_of(request)
    event = _session_in(request.scope["raw_path"])
    if service.sessions is not None:
        await service.sessions.forget(event.session)
    position = await keep(service, [event]) if service.learns else None
    if service.feedback is not None:
        try:
            await service.feedback.forget(event.session, partial(has_left, request.receive))
        except ServiceError:
            service.metrics.add("mtaw_rejected_total", "overloaded")
            raise
        except Exception as error:  # disks and Redis raise errors of many types
            reason = f"the session's feedback could not be removed ({type(error).__name__}); send the request again"
            raise unavailable("not_kept", reason) from None
    return json_response(ForgetAnswer(version=service.take(request, event.session).version, log_position=position))


def _session_in(path: bytes) -> Forget:
    """Return the request to forget the session at the end of a path. Raises ServiceError (400) on an invalid id."""
    try:
        return forget_of(unquote(path.rpartition(b"/")[2], errors="strict"), now_ms())
    except (DataError, UnicodeDecodeError) as error:
        raise invalid("invalid_request", f"the session's id in the path is not valid ({error}); send UTF-8") from None


def keep_encoded_slashes(app: ASGIApp) -> ASGIApp:
    """Return the app for paths in which an encoded slash is a part of a session's id and separates nothing."""

    async def routed(scope: Any, receive: Any, send: Any) -> None:
        raw_path = scope.get("raw_path", b"")
        if b"%" in raw_path and raw_path.startswith(_SESSIONS):
            scope["path"] = unquote(raw_path.replace(b"%2f", b"%2F").replace(b"%2F", b"%252F"))
        await app(scope, receive, send)

    return routed


async def learn_clicks(
    service: Service,
    session: str,
    items: list[int | str],
    context: Mapping[str, Any] | None = None,
    types: Sequence[str | None] | None = None,
) -> None:
    """Write clicks of a kept session to the log, if the service learns. Raises ServiceError (400) on a bad id."""
    if service.learns and items:
        now = now_ms()
        try:
            clicks: list[Event] = [
                checked_click(session, item, now, kind, context=context, where=f"click {number}")
                for number, (item, kind) in enumerate(zip(items, types or [None] * len(items), strict=True))
                if item != ""
            ]
        except DataError as error:
            raise invalid("invalid_item", str(error)) from None
        await keep(service, clicks)


async def keep(service: Service, new_events: list[Event]) -> str:
    """Append events to the log; return the position after them. Raises ServiceError (503) if that fails."""
    return await _append(service, lambda: new_events, len(new_events))


async def _append(service: Service, make: Callable[[], list[Event]], count: int) -> str:
    """Append the `count` events that `make` returns, which may be called again; see `keep`. Raises what `make` raises.

    A few events are made and written on the event loop, in microseconds. Many get a thread, as do fsync and Redis.
    """
    learner, *others = service.learners
    try:
        if count <= _ON_LOOP and not learner.settings.fsync and learner.settings.stream is None:
            position = learner.append(make())
        else:
            service.appending += count
            try:
                position = await in_background(lambda: learner.append(make()))
            finally:
                service.appending -= count
    except LearnError as error:
        if service.learners[0] is not learner:  # a reload has closed its log meanwhile
            return await _append(service, make, count)
        service.metrics.add("mtaw_events_refused_total", by=count)
        raise unavailable("not_kept", str(error)) from None
    for other in others:  # the log is the same
        other.follower.wake()
    service.metrics.add("mtaw_events_total", by=count)
    return position
