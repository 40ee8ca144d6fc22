"""The routes that rank. Each takes one snapshot when its work begins, and uses only that one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from litestar import Response, get, post
from litestar.params import Body, Parameter

from mtaw_fast.data.click_types import checked_types
from mtaw_fast.data.context import checked_context
from mtaw_fast.data.item_ids import refuse_other_type
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.service.bundles import Reloader
from mtaw_fast.service.encoding import encoded
from mtaw_fast.service.errors import ServiceError, invalid
from mtaw_fast.service.http.access import check_request_origin, has_token
from mtaw_fast.service.http.decoding import StrictRequest, decoded
from mtaw_fast.service.http.middleware import Direct
from mtaw_fast.service.http.responses import JSON, json_response
from mtaw_fast.service.request_queue import BatchedWork
from mtaw_fast.service.routes.answers import (
    AskLimits,
    BatchAnswer,
    BundleAnswer,
    ClickAnswer,
    RecommendAnswer,
    ServedBundle,
    SessionAnswer,
)
from mtaw_fast.service.routes.events import SESSION_ID, learn_clicks
from mtaw_fast.service.routes.openapi import errors, operation
from mtaw_fast.service.routes.ranking import (
    LONG_LIST,
    Ranked,
    batch_answer,
    check_fields,
    check_limits,
    check_options,
    check_reasons,
    count_ranking,
    count_rankings,
    exploration,
    rank,
    rank_batch,
    rank_batched,
    request_rules,
)
from mtaw_fast.service.routes.requests import BatchRequest, ClickRequest, RankingOptions, RecommendRequest
from mtaw_fast.service.state import Service, service_of


@post("/v1/recommend", status_code=200, responses=errors(400, 408, 413, 503), operation_class=operation("recommend"))
async def recommend(request: StrictRequest, data: Annotated[RecommendRequest, Body()]) -> Response[RecommendAnswer]:
    """Return the k best next items of one session."""
    return Response(await _recommend(service_of(request), request.scope, data), media_type=JSON)  # type: ignore[arg-type]


async def _recommend(service: Service, scope: Any, data: RecommendRequest) -> bytes:
    check_limits(data, (data.session,), service.settings.limits)
    if data.types is not None:
        checked_types("types", data.types, len(data.session))
    ranked = await _ranked(scope, service, data, data.session, service.bundles.of(data.session_id))
    service.watch.ranked(ranked.snapshot, data.session_id, data.session, ranked.out.items)
    answer = ranked.answer(data.timings, data.session_id)
    _record(service, ranked, "recommend", data.session_id, answer, data)
    return encoded(RecommendAnswer(**answer))


def _record(
    service: Service, ranked: Ranked, route: str, session: str | None, answer: dict[str, Any], options: RankingOptions
) -> None:
    ranking = ranked.out
    service.recorder.record(
        ranked.snapshot, route, session, answer["recommendation"], ranking.items, ranking.fallback, options.rules
    )


async def _recommend_directly(service: Service, scope: Any, body: bytes) -> bytes:
    return await _recommend(service, scope, decoded(body, RecommendRequest))


DIRECT: dict[bytes, Direct] = {b"/v1/recommend": _recommend_directly}


@post("/v1/recommend/batch", status_code=200, responses=errors(400, 408, 413, 503), operation_class=operation("batch"))
async def recommend_batch(request: StrictRequest, data: Annotated[BatchRequest, Body()]) -> Response[BatchAnswer]:
    """Return the k best next items of many sessions, all from one bundle."""
    service = service_of(request)
    check_limits(data, data.sessions, service.settings.limits)
    snapshot = service.take(request, data.session_id)
    check_fields(data.fields, snapshot, request.scope, service.settings)
    rules = request_rules(data.rules, has_token(request.scope, service.settings))
    explore = exploration(data, service.settings)

    def work(_: float, check_deadline: Callable[[], None]) -> tuple[list[Recommendations], BatchAnswer, bytes]:
        rankings = rank_batch(snapshot, data, check_deadline, rules, explore)
        answer = batch_answer(snapshot, rankings, data.session_id)
        return rankings, answer, encoded(answer)

    rankings, answer, body = await service.queue.run_in_thread(work)
    count_rankings(service.metrics, snapshot.version, data.sessions, rankings)
    for result in answer.answers:
        service.recorder.record(
            snapshot, "batch", data.session_id, result.recommendation, result.items, result.fallback, data.rules
        )
    return Response(body, media_type=JSON)  # type: ignore[arg-type]


@post(
    "/v1/sessions/{session_id:str}/click", status_code=200, responses=errors(400, 403, 408, 413, 503),
    operation_class=operation("click"),
)  # fmt: skip
async def click(
    request: StrictRequest,
    session_id: Annotated[str, Parameter(pattern=f"^{SESSION_ID}$", description="Chosen by the client.")],
    data: Annotated[ClickRequest, Body()],
) -> Response[ClickAnswer]:
    """Append clicks to a session that the service keeps, and rank for the whole session."""
    service = service_of(request)
    assert service.sessions is not None
    check_request_origin(request, service.settings)
    _check_line_end(session_id)
    check_limits(data, (data.items,), service.settings.limits)
    # Before anything is stored: a client sends a refused request again.
    snapshot = service.bundles.of(session_id).snapshot
    check_fields(data.fields, snapshot, request.scope, service.settings)
    check_options(snapshot, data, request_rules(data.rules, has_token(request.scope, service.settings)))
    refuse_other_type(snapshot.recommender.ids.kind, data.items, "the click")
    if data.types is not None:
        checked_types("types", data.types, len(data.items))
    if data.reasons:
        clicks = [*await service.sessions.clicks(session_id), *data.items]
        check_reasons(data, (clicks[-service.settings.limits.clicks :],))
    context, columns = data.context, _context_columns(service, session_id)
    if context is not None:
        checked_context(context, columns)
    elif columns:
        stored = await service.sessions.context(session_id, None)
        data.context = None if stored is None else {name: stored[name] for name in columns if name in stored}
    await learn_clicks(service, session_id, data.items, data.context, data.types)
    clicks, data.types = await service.sessions.click(session_id, data.items, data.types)
    if context is not None:
        await service.sessions.context(session_id, context)
    ranked = await _ranked(request.scope, service, data, clicks, service.bundles.of(session_id))
    service.watch.ranked(ranked.snapshot, session_id, clicks, ranked.out.items)
    answer = ranked.answer(data.timings, session_id)
    _record(service, ranked, "click", session_id, answer, data)
    if ranked.out.unknown:  # only of this request: each one before it named its own
        unknown = set(ranked.out.unknown)
        answer["unknown"] = [item for item in data.items if item in unknown]
    return json_response(ClickAnswer(clicks=len(clicks), **answer))


def _check_line_end(session_id: str) -> None:
    """Raise ServiceError if an id ends in a line end: Python's `$` in the route's pattern allows it."""
    if session_id.endswith("\n"):
        raise invalid("invalid_request", "the session's id in the path ends in a line end; see /openapi.json")


def _context_columns(service: Service, session_id: str) -> tuple[str, ...]:
    context = service.bundles.of(session_id).snapshot.recommender.bundle.model.context
    return () if context is None else context.columns.names


@get("/v1/sessions/{session_id:str}", responses=errors(400, 403, 404, 503), operation_class=operation("session"))
async def session(
    request: StrictRequest,
    session_id: Annotated[str, Parameter(pattern=f"^{SESSION_ID}$", description="The id that its clicks used.")],
) -> Response[SessionAnswer]:
    """Return the clicks of a session that the service keeps. This does not extend its time to live."""
    service = service_of(request)
    assert service.sessions is not None
    check_request_origin(request, service.settings)
    _check_line_end(session_id)
    clicks = await service.sessions.clicks(session_id)
    if not clicks:
        raise ServiceError(404, "unknown_session", "the service keeps no such session; it may have expired")
    return json_response(SessionAnswer(version=service.take(request, session_id).version, clicks=clicks))


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
            limits=AskLimits(k=limits.k, clicks=limits.clicks, batch=limits.batch, body=limits.body),
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


async def _ranked(
    scope: Any,
    service: Service,
    request: RecommendRequest | ClickRequest,
    session: list[int | str],
    reloader: Reloader,
) -> Ranked:
    """Rank a session with the bundle of `reloader`; in a thread if that takes long."""
    # Before it is queued: in the queue, the error would fail every session of its batch.
    refuse_other_type(reloader.snapshot.recommender.ids.kind, session)
    check_fields(request.fields, reloader.snapshot, scope, service.settings)

    rules = None if request.rules is None else request_rules(request.rules, has_token(scope, service.settings))

    explore = exploration(request, service.settings)

    def work(waited: float = 0.0) -> Ranked:
        return rank(reloader.snapshot, request, session, waited, rules, explore)

    if rules is None and request.allow is None and len(request.exclude) <= LONG_LIST and not request.reasons:
        if service.queue.is_free():
            ranked = work()
        else:
            ranked = await service.queue.run(work, _batched(service, reloader, request, session))
    else:
        ranked = await service.queue.run_in_thread(lambda waited, _: work(waited))
    version = ranked.snapshot.version
    service.name_version(scope, version)
    count_ranking(service.metrics, version, session, ranked)
    return ranked


def _batched(
    service: Service, reloader: Reloader, request: RecommendRequest | ClickRequest, session: list[int | str]
) -> BatchedWork | None:
    """Return how a request is batched; None unless batches are faster: with an index that reads the whole catalog."""
    if request.exclude or request.timings or request.fields or reloader.snapshot.recommender.index.name != "native":
        return None

    def work(sessions: list[Any], waited: list[float]) -> list[Ranked]:
        return rank_batched(reloader.snapshot, request, sessions, waited, service.metrics, explore)

    explore = exploration(request, service.settings)
    context = None if request.context is None else tuple(sorted(request.context.items()))
    options = request.k, request.exclude_seen, request.repeats, request.at, context, explore[0]
    return BatchedWork((id(reloader), *options), (session, request.types), work)
