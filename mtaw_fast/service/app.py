"""The ASGI app of a worker: its routes, its error responses, and the middleware around them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get, route
from litestar.datastructures import State

from mtaw_fast.errors import UsageError
from mtaw_fast.service.bundles import Bundles, Reloader
from mtaw_fast.service.feedback_store import open_feedback
from mtaw_fast.service.http.bodies import StrictRequest
from mtaw_fast.service.http.middleware import Middleware
from mtaw_fast.service.http.responses import JSON, error_answer
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.origins import Origins
from mtaw_fast.service.ranking_ids import load_key, use_key
from mtaw_fast.service.request_queue import RequestQueue
from mtaw_fast.service.routes import changes, events, feedback, items, operations, pages, placements, recommend
from mtaw_fast.service.routes.openapi import openapi_config, state_limits
from mtaw_fast.service.sessions import open_sessions
from mtaw_fast.service.settings import Limits, Settings
from mtaw_fast.service.state import Service, service_of

_STORE_TIMEOUT = 1.0  # seconds for a reply of Redis


def make_service(
    settings: Settings,
    reloader: Reloader,
    metrics: Metrics,
    others: Sequence[Reloader] = (),
    is_alone: Callable[[], bool] = lambda: False,
    origins: Origins | None = None,
) -> Service:
    """Return the `Service` that the routes of a worker share.

    others: the reloaders of further bundles. is_alone: see `RequestQueue`. origins: those of all workers; a service
    that takes open events and is given none has its own. Raises UsageError if a store for sessions or feedback cannot
    be used, or if the item ids of the bundles have different types.
    """
    reloaders = [reloader, *others]
    if len({loader.snapshot.recommender.ids.kind for loader in reloaders}) > 1:
        kinds = ", ".join(f"{loader.snapshot.name} {loader.snapshot.recommender.ids.kind}" for loader in reloaders)
        raise UsageError(
            f"--bundle: the bundles' item ids are of different types ({kinds}); serve bundles with ids of one type"
        )
    bundles = Bundles(reloaders, [weight for _, weight in settings.side_by_side])
    use_key(load_key(settings))
    queue = RequestQueue(settings.limits, metrics, is_alone)
    sessions = open_sessions(settings, _STORE_TIMEOUT)
    if origins is None and settings.takes_open_events:
        with contextlib.closing(Origins.make(settings.workers)) as memory:
            origins = Origins(memory, settings)
    return Service(settings, metrics, bundles, queue, sessions, open_feedback(settings, _STORE_TIMEOUT), origins)


def make_app(service: Service) -> Middleware:
    """Return the app, with the routes that the settings ask for."""
    handlers = _routes(service.sessions is not None, service.learns, service.feedback is not None)
    app = Litestar(
        handlers,
        request_class=StrictRequest,
        state=State({"service": service, "openapi": _document(handlers, service.settings.limits)}),
        exception_handlers={Exception: _failed},
        openapi_config=None,
        logging_config=None,
    )
    return Middleware(events.keep_encoded_slashes(app), service, recommend.DIRECT)


def whole_document() -> bytes:
    """Return the OpenAPI document of a service with every route and the default limits."""
    return _document(_routes(with_sessions=True, learns=True, with_feedback=True), Limits())


def _routes(with_sessions: bool, learns: bool, with_feedback: bool) -> list[Any]:
    handlers: list[Any] = [
        recommend.recommend,
        recommend.recommend_batch,
        operations.bundle,
        items.similar_items,
        items.find_items,
        changes.add_items,
        changes.new_items,
        changes.remove_items,
        changes.hide_items,
        changes.show_items,
        changes.put_items,
        changes.patch_items,
        placements.get_placements,
        _options(placements.put_placement, placements.get_placement, placements.delete_placement),
        placements.put_placement,
        placements.get_placement,
        placements.delete_placement,
        operations.reload,
        operations.healthz,
        operations.readyz,
        operations.metrics,
        *pages.page_routes(),
        _openapi,
    ]
    if with_sessions:
        handlers += [_options(recommend.session, events.forget), recommend.click, recommend.session]
    if with_sessions or learns or with_feedback:
        handlers.append(events.forget)
    if learns:
        handlers += [events.events, operations.compact, operations.refusals]
    if with_feedback:
        handlers += [feedback.feedback, pages.experiment]
    return handlers


def _options(*handlers: Any) -> Any:
    """Return a handler of OPTIONS for a path that handlers share: Litestar's own names only the first one's method."""
    methods = sorted({"OPTIONS"}.union(*(handler.http_methods for handler in handlers)))

    @route(sorted(handlers[0].paths)[0], http_method=["OPTIONS"], status_code=204, include_in_schema=False)
    async def options() -> Response[None]:
        return Response(None, headers={"Allow": ", ".join(methods)})

    return options


def _document(handlers: list[Any], limits: Limits) -> bytes:
    """Return the OpenAPI document. A separate app makes it: one that describes itself also serves pages from CDNs."""
    document = Litestar(
        handlers, request_class=StrictRequest, openapi_config=openapi_config(), logging_config=None
    ).openapi_schema.to_schema()
    state_limits(document, limits)
    return msgspec.json.encode(document)


@get("/openapi.json", include_in_schema=False)
async def _openapi(request: StrictRequest) -> Response[bytes]:
    """The OpenAPI document."""
    return Response(request.app.state.openapi, media_type=JSON)


def _failed(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Return the error response for any error."""
    scope: Any = request.scope
    status, body, headers = error_answer(scope, error, service_of(request))
    return Response(body, status_code=status, media_type=JSON, headers=headers)
