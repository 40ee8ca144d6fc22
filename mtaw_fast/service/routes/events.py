"""The routes of learning: events to learn from, and sessions to delete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any
from urllib.parse import unquote

from litestar import Response, delete, post
from litestar.connection import ASGIConnection
from litestar.params import Body, Parameter
from litestar.types import ASGIApp

from mtaw_fast.data.item_ids import refuse_other_type
from mtaw_fast.errors import DataError, LearnError
from mtaw_fast.online.learner import OnlineLearner
from mtaw_fast.online.log.checked_events import checked_click, forget_of
from mtaw_fast.online.log.events import MAX_TEXT_LENGTH, Click, Event, Forget, now_ms
from mtaw_fast.service.errors import ServiceError, invalid, unavailable
from mtaw_fast.service.http.access import is_trusted, may_send_events
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
    "/v1/events", status_code=200, responses=errors(400, 401, 403, 408, 413, 503), operation_class=operation("events"),
    guards=[may_send_events, _within_backlog],
)  # fmt: skip
async def events(request: StrictRequest, data: Annotated[EventsRequest, Body()]) -> Response[EventsAnswer]:
    """Learn from clicks. Once this answers they are in the log; within a second every ranking knows them.

    With the bearer token of events, their times and their number are believed; without, some may be refused.
    """
    service = service_of(request)
    _check_backlog(service)  # again: other requests came while the body did
    refuse_other_type(service.reloader.snapshot.recommender.ids.kind, [event.item for event in data.events], "`events`")
    count, trusted = len(data.events), is_trusted(request.scope, service.settings)
    verdicts: Counter[str | None] = Counter()

    def make(learner: OnlineLearner, now: int) -> list[Click]:
        clicks = _clicks(data.events, now, trusted)
        if not trusted:
            clicks = _judged(service, request.scope, clicks, learner, now)
            verdicts.update(click.refused for click in clicks)
        return clicks

    position = await _append(service, make, count)
    for event in data.events:
        service.watch.clicked(event.session, event.item)
    version = service.take(request).version
    refused = {rule: number for rule, number in verdicts.items() if rule is not None}
    return json_response(EventsAnswer(version=version, accepted=count, log_position=position, refused=refused))


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


def _judged(service: Service, scope: Any, clicks: list[Click], learner: OnlineLearner, now: int) -> list[Click]:
    """Return open clicks, judged; see `Origins.judged`."""
    assert service.origins is not None  # requests without a token were refused
    return service.origins.judged(scope, clicks, learner.usual_visits, now)


def _clicks(events: Sequence[EventRequest], now: int, trusted: bool) -> list[Click]:
    """Return events as clicks. Raises ServiceError (400) if one is invalid."""
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
                trusted=trusted,
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
    scope: Any,
    session: str,
    items: list[int | str],
    context: Mapping[str, Any] | None = None,
    types: Sequence[str | None] | None = None,
) -> None:
    """Write clicks of a kept session to the log, if the service learns from the request of an ASGI scope.

    Raises ServiceError: 400 on a bad id, 401 on a wrong token.
    """
    if not service.learns or not items:
        return
    trusted = is_trusted(scope, service.settings)
    if not trusted and not service.settings.takes_open_events:
        return

    def make(learner: OnlineLearner, now: int) -> list[Click]:
        try:
            clicks = [
                checked_click(session, item, now, kind, context=context, where=f"click {number}", trusted=trusted)
                for number, (item, kind) in enumerate(zip(items, types or [None] * len(items), strict=True))
                if item != ""
            ]
        except DataError as error:
            raise invalid("invalid_item", str(error)) from None
        return clicks if trusted else _judged(service, scope, clicks, learner, now)

    await _append(service, make, len(items))


async def keep(service: Service, new_events: list[Event]) -> str:
    """Append events to the log; return the position after them. Raises ServiceError (503) if that fails."""
    return await _append(service, lambda *_: new_events, len(new_events))


async def _append(service: Service, make: Callable[[OnlineLearner, int], Sequence[Event]], count: int) -> str:
    """Append the `count` events that `make` returns; see `keep`. Raises what `make` raises.

    make: called once, with the learner and the events' arrival. A few events are made and written on the event loop, in
    microseconds. Many get a thread, as do fsync and Redis.
    """
    made: Sequence[Event] | None = None
    now = now_ms()

    def append() -> str:
        nonlocal made
        if made is None:
            made = make(learner, now)
        return learner.append(made, now=now)

    while True:
        learner, *others = service.learners
        try:
            if count <= _ON_LOOP and not learner.settings.fsync and learner.settings.stream is None:
                position = append()
            else:
                service.appending += count
                try:
                    position = await in_background(append)
                finally:
                    service.appending -= count
            break
        except LearnError as error:
            if service.learners[0] is not learner:  # a reload has closed its log meanwhile
                continue
            service.metrics.add("mtaw_events_refused_total", by=count)
            raise unavailable("not_kept", str(error)) from None
    for other in others:  # the log is the same
        other.follower.wake()
    service.metrics.add("mtaw_events_total", by=count)
    return position
