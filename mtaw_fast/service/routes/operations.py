"""The routes about the service itself: what it serves, health, metrics, reload, compaction."""

from __future__ import annotations

from litestar import Response, get, post

from mtaw_fast.errors import LearnError, MtawError
from mtaw_fast.service.arms import request_compactions
from mtaw_fast.service.bundles import ReloadResult
from mtaw_fast.service.errors import ServiceError, unavailable
from mtaw_fast.service.http.access import admin_only
from mtaw_fast.service.http.bodies import StrictRequest
from mtaw_fast.service.http.responses import json_response
from mtaw_fast.service.observability.metrics import CONTENT_TYPE
from mtaw_fast.service.origins import LAST_REFUSALS, Refusal
from mtaw_fast.service.resources import in_background
from mtaw_fast.service.routes.answers import (
    AskLimits,
    BundleAnswer,
    CompactAnswer,
    HealthAnswer,
    RefusalsAnswer,
    RefusedClick,
    ReloadAnswer,
    ServedBundle,
)
from mtaw_fast.service.routes.openapi import errors, operation
from mtaw_fast.service.state import Service, service_of


@get("/v1/bundle", operation_class=operation("bundle"))
async def bundle(request: StrictRequest) -> Response[BundleAnswer]:
    """Return what is served."""
    service = service_of(request)
    snapshot, limits = service.take(request), service.settings.limits
    recommender = snapshot.recommender
    return json_response(
        BundleAnswer(
            version=snapshot.version,
            items=recommender.n_items,
            ids=recommender.ids.kind,
            encoder=recommender.encoder.name,
            index=recommender.index.name,
            limits=AskLimits(
                k=limits.k, clicks=limits.clicks, batch=limits.batch, results=limits.results, body=limits.body
            ),
            bundles=_side_by_side(service),
            fields=None if recommender.items is None else list(recommender.items.public),
        )
    )


def _side_by_side(service: Service) -> list[ServedBundle] | None:
    if len(service.bundles) == 1:
        return None
    return [
        ServedBundle(name=name, version=snapshot.version, items=snapshot.recommender.n_items, share=share)
        for (_, name), snapshot, share in zip(
            service.settings.served,
            (reloader.snapshot for reloader in service.bundles),
            service.bundles.shares,
            strict=True,
        )
        if name is not None
    ]


@get("/healthz", operation_class=operation("health"))
async def healthz(request: StrictRequest) -> Response[HealthAnswer]:
    """Answer as long as the worker's event loop runs."""
    return json_response(HealthAnswer(version=service_of(request).take(request).version, status="ok"))


@get("/readyz", responses=errors(503), operation_class=operation("ready"))
async def readyz(request: StrictRequest) -> Response[HealthAnswer]:
    """Answer 200 while the worker takes requests, 503 while it shuts down."""
    service = service_of(request)
    if service.stopping:
        raise unavailable("not_ready", "the worker is shutting down; send the request to another one")
    return json_response(HealthAnswer(version=service.take(request).version, status="ready"))


@get("/metrics", operation_class=operation("metrics"), media_type="text/plain")
async def metrics(request: StrictRequest) -> Response[bytes]:
    """Return the metrics of all workers, summed, in Prometheus' text format."""
    return Response(await service_of(request).metrics_page.body(), media_type=CONTENT_TYPE)


@post(
    "/admin/reload", status_code=200, responses=errors(401, 403, 409, 503), operation_class=operation("reload"),
    guards=[admin_only],
)  # fmt: skip
async def reload(request: StrictRequest) -> Response[ReloadAnswer]:
    """Load a new bundle now, in every worker. Needs the bearer token."""
    service = service_of(request)
    results: set[ReloadResult] = set()
    refused: list[MtawError] = []
    service.metrics.counters.request_reload()
    for reloader in service.bundles:
        reloader.acknowledge()
    for reloader in service.bundles:
        try:
            results.add(await reloader.reload(verify=True))
        except MtawError as error:
            refused.append(error)
    if refused:
        raise ServiceError(409, "bundle_refused", f"{refused[0]}; the old bundle stays in service")
    result: ReloadResult = "loaded" if "loaded" in results else "unchanged"
    version = service.take(request).version
    return json_response(ReloadAnswer(version=version, result=result, workers=service.metrics.workers()))


@post(
    "/admin/compact", status_code=202, responses=errors(401, 403, 409, 503), operation_class=operation("compact"),
    guards=[admin_only],
)  # fmt: skip
async def compact(request: StrictRequest) -> Response[CompactAnswer]:
    """Start a compaction: it writes what was learned into the compacted bundles, and redacts the log.

    It begins after one that is running. Needs the bearer token.
    """
    service = service_of(request)
    try:
        position = await in_background(lambda: request_compactions(service.learners))
    except LearnError as error:
        raise ServiceError(409, "not_compacted", str(error)) from None
    if position is None:
        raise ServiceError(409, "compaction_running", "a compaction that was asked for is running; try again after it")
    return json_response(CompactAnswer(version=service.take(request).version, log_position=position), 202)


@get("/admin/refusals", responses=errors(401, 403, 503), operation_class=operation("refusals"), guards=[admin_only])
async def refusals(request: StrictRequest) -> Response[RefusalsAnswer]:
    """Return the last clicks that were not learned, and why. Needs the bearer token."""
    service = service_of(request)
    origins, learner = service.origins, service.learners[0]
    arrived = [] if origins is None else origins.refusals()
    # What this host refused on arrival is in its log, too, without the origin.
    known = {(refusal.rule, refusal.time) for refusal in arrived}
    recent = [Refusal(*refusal) for refusal in learner.state.event_processor.tracker.last_refused.copy()]
    by_log = [refusal for refusal in recent if (refusal.rule, refusal.time) not in known]
    last = sorted(arrived + by_log, key=lambda refusal: -refusal.time)[:LAST_REFUSALS]
    return json_response(
        RefusalsAnswer(
            version=service.take(request).version,
            refusals=[RefusedClick(**refusal._asdict()) for refusal in last],
            busiest_origin_share=None if origins is None else origins.busiest_share(),
        )
    )
