"""The routes of learning: events to learn from, and sessions to delete."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, delete, post
from litestar.params import Body, Parameter

from mtaw_fast.errors import DataError, LearnError
from mtaw_fast.online.learner import OnlineLearner
from mtaw_fast.online.log.events import Event, Forget, checked_click, now_ms
from mtaw_fast.service.background import in_background
from mtaw_fast.service.errors import invalid, unavailable
from mtaw_fast.service.http.access import check_request_origin
from mtaw_fast.service.http.decoding import StrictRequest
from mtaw_fast.service.http.responses import json_response
from mtaw_fast.service.routes.messages import EventsAnswer, EventsRequest, ForgetAnswer
from mtaw_fast.service.routes.openapi import errors, operation
from mtaw_fast.service.state import Service, service_of

SESSION_ID = r"[A-Za-z0-9._~-]{1,128}"


@post("/v1/events", status_code=200, responses=errors(400, 403, 408, 413, 503), operation_class=operation("events"))
async def events(request: StrictRequest, data: Annotated[EventsRequest, Body()]) -> Response[EventsAnswer]:
    """Learn from clicks. Once this answers they are in the log; within a second every ranking knows them."""
    service = service_of(request)
    check_request_origin(request, service.settings)
    now = now_ms()
    try:
        clicks: list[Event] = [
            checked_click(
                one.session, one.item, now if one.time is None else one.time, one.type, one.id, where=f"event {place}"
            )
            for place, one in enumerate(data.events)
        ]
    except DataError as error:
        raise invalid("invalid_event", str(error)) from None
    position = await keep(service, clicks)
    version = service.take(request).version
    return json_response(EventsAnswer(version=version, accepted=len(clicks), log_position=position))


@delete(
    "/v1/sessions/{session_id:str}",
    status_code=200,
    responses=errors(400, 403, 503),
    operation_class=operation("forget"),
)
async def forget(
    request: StrictRequest,
    session_id: Annotated[str, Parameter(pattern=f"^{SESSION_ID}$", description="The id that its clicks used.")],
) -> Response[ForgetAnswer]:
    """Delete a session: what every worker learned from it, and the copy that the service keeps."""
    service = service_of(request)
    check_request_origin(request, service.settings)
    if service.sessions is not None:
        await service.sessions.forget(session_id)
    position = await keep(service, [Forget(session_id, now_ms())]) if service.learns else None
    return json_response(ForgetAnswer(version=service.take(request, session_id).version, log_position=position))


async def learn_clicks(service: Service, session: str, items: list[int | str]) -> None:
    """Write clicks of a kept session to the log, if the service learns. Raises ServiceError (400) on a bad id."""
    if service.learns and items:
        now = now_ms()
        try:
            clicks: list[Event] = [
                checked_click(session, item, now, where=f"click {place}")
                for place, item in enumerate(items)
                if item != ""
            ]
        except DataError as error:
            raise invalid("invalid_item", str(error)) from None
        await keep(service, clicks)


async def keep(service: Service, some: list[Event]) -> str:
    """Append events to the log; return the position after them. Raises ServiceError (503) if that fails."""
    learner = service.reloader.snapshot.recommender.learner
    assert learner is not None
    try:
        position = await _appended(learner, some)
    except LearnError as error:
        service.metrics.add("mtaw_events_refused_total", by=len(some))
        raise unavailable("not_kept", str(error)) from None
    service.metrics.add("mtaw_events_total", by=len(some))
    return position


async def _appended(learner: OnlineLearner, some: list[Event]) -> str:
    """Append on the event loop if that is one write(2) of microseconds; fsync and Redis get a thread."""
    if learner.settings.fsync or learner.settings.stream is not None:
        return await in_background(lambda: learner.append(some))
    return learner.append(some)
