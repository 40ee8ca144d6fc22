"""The ASGI app of a process that serves: its routes, how errors are answered, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get, route
from litestar.datastructures import State

from mtaw_fast.errors import UsageError
from mtaw_fast.service.bundles import Bundles
from mtaw_fast.service.feedback.stores import open_feedback
from mtaw_fast.service.http.answers import JSON
from mtaw_fast.service.http.decoding import StrictRequest
from mtaw_fast.service.http.error_answers import error_answer
from mtaw_fast.service.http.middleware import Middleware
from mtaw_fast.service.http.openapi import openapi_config
from mtaw_fast.service.http.openapi_limits import state_limits
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.reload import Reloader
from mtaw_fast.service.request_queue import RequestQueue
from mtaw_fast.service.routes import events as learning
from mtaw_fast.service.routes import feedback, items, operations
from mtaw_fast.service.routes import recommend as routes
from mtaw_fast.service.routes.pages import page_routes
from mtaw_fast.service.sessions.stores import open_sessions
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.state import Service, service_of

_STORE_TIMEOUT = 1.0  # seconds that the session store has for an answer


def make_service(settings: Settings, reloader: Reloader, metrics: Metrics, beside: Sequence[Reloader] = ()) -> Service:
    """What the routes share, for a process that serves.

    beside: of the bundles that are served with the first. Raises UsageError on a session store or a place for feedback
    that cannot be one, and where the bundles' ids are not of one type.
    """
    reloaders = [reloader, *beside]
    if len({one.snapshot.recommender.ids.kind for one in reloaders}) > 1:
        kinds = ", ".join(f"{one.snapshot.name} {one.snapshot.recommender.ids.kind}" for one in reloaders)
        raise UsageError(f"--bundle: the bundles' item ids are of different types ({kinds}); serve those of one type")
    bundles = Bundles(reloaders, [weight for _, weight in settings.side_by_side])
    queue = RequestQueue(settings.limits, metrics)
    sessions = open_sessions(settings, _STORE_TIMEOUT)
    return Service(settings, metrics, bundles, queue, sessions, open_feedback(settings, _STORE_TIMEOUT))


def make_app(service: Service) -> Middleware:
    """The app, with the routes that the settings ask for."""
    handlers: list[Any] = [
        routes.recommend,
        routes.recommend_batch,
        routes.bundle,
        items.similar_items,
        items.find_items,
        items.add_items,
        items.remove_items,
        operations.reload,
        operations.healthz,
        operations.readyz,
        operations.metrics,
        *page_routes(),
        _openapi,
    ]
    if service.sessions is not None:
        handlers += [_options(routes.session, learning.forget), routes.click, routes.session]
    if service.sessions is not None or service.learns:
        handlers.append(learning.forget)
    if service.learns:
        handlers.append(learning.events)
    if service.feedback is not None:
        handlers.append(feedback.feedback)
    app = Litestar(
        handlers,
        request_class=StrictRequest,
        state=State({"service": service, "openapi": _document(handlers, service)}),
        exception_handlers={Exception: _failed},
        openapi_config=None,
        logging_config=None,
    )
    return Middleware(app, service, routes.DIRECT)


def _options(*handlers: Any) -> Any:
    """What `OPTIONS` is answered on the path that some handlers share: Litestar's own would name the first's method."""
    methods = sorted({"OPTIONS"}.union(*(one.http_methods for one in handlers)))

    @route(sorted(handlers[0].paths)[0], http_method=["OPTIONS"], status_code=204, include_in_schema=False)
    async def options() -> Response[None]:
        return Response(None, headers={"Allow": ", ".join(methods)})

    return options


def _document(handlers: list[Any], service: Service) -> bytes:
    """The OpenAPI document, from an app of its own: one that describes itself also serves pages that load from CDNs."""
    document = Litestar(
        handlers, request_class=StrictRequest, openapi_config=openapi_config(), logging_config=None
    ).openapi_schema.to_schema()
    state_limits(document, service.settings.limits)
    return msgspec.json.encode(document)


@get("/openapi.json", include_in_schema=False)
async def _openapi(request: StrictRequest) -> Response[bytes]:
    """The OpenAPI document."""
    return Response(request.app.state.openapi, media_type=JSON)


def _failed(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Any error as the one kind of error answer."""
    scope: Any = request.scope
    status, body, headers = error_answer(scope, error, service_of(request))
    return Response(body, status_code=status, media_type=JSON, headers=headers)
