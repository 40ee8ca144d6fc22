"""The routes that rank, and those of kept sessions: a request is decoded, checked, ranked and encoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from litestar import Response, get, post
from litestar.params import Body, Parameter

from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.service.errors import ServiceError, invalid
from mtaw_fast.service.http.bodies import StrictRequest
from mtaw_fast.service.http.middleware import Direct
from mtaw_fast.service.http.responses import JSON, json_response
from mtaw_fast.service.json_codec import decoded, encoded
from mtaw_fast.service.routes.answers import Answer, BatchAnswer, ClickAnswer, RecommendAnswer, SessionAnswer
from mtaw_fast.service.routes.checks import (
    check_batch,
    check_clicks,
    check_keywords,
    check_limits,
    check_reasons,
    checked_rules,
    cost_of,
    ranking_keywords,
)
from mtaw_fast.service.routes.events import SESSION_ID, learn_clicks
from mtaw_fast.service.routes.openapi import errors, operation
from mtaw_fast.service.routes.ranking import (
    Question,
    Ranked,
    answer_fields,
    count_ranking,
    rank,
    rank_batch,
    rank_now,
)
from mtaw_fast.service.routes.requests import BatchRequest, ClickRequest, RecommendRequest
from mtaw_fast.service.state import Service, service_of


@post(
    "/v1/recommend", status_code=200, responses=errors(400, 403, 408, 413, 503), operation_class=operation("recommend")
)
async def recommend(data: Annotated[RecommendRequest, Body()]) -> Response[RecommendAnswer]:
    """Return the k best next items of one session."""
    raise NotImplementedError("this is the OpenAPI document's: `DIRECT` has the route")


def _asked(service: Service, scope: Any, body: bytes) -> tuple[RecommendRequest, Question]:
    data = decoded(body, RecommendRequest)
    check_limits(data, (data.session,), service.settings.limits)
    reloader = service.bundles.of(data.session_id)
    keywords, placed = ranking_keywords(data, data.session_id, reloader.snapshot, scope, service.settings)
    return data, Question(reloader, data.session_id, data.session, data.types, keywords, data.timings, placed)


def _answer(service: Service, data: RecommendRequest, question: Question, ranked: Ranked) -> bytes:
    return encoded(RecommendAnswer(**_noted(service, ranked, "recommend", data, question)))


def _recommend_now(service: Service, scope: Any, body: bytes) -> bytes | None:
    scope[_ASKED] = data, question = _asked(service, scope, body)
    ranked = rank_now(service, scope, question)
    return None if ranked is None else _answer(service, data, question, ranked)


async def _recommend(service: Service, scope: Any, body: bytes) -> bytes:
    data, question = scope.get(_ASKED) or _asked(service, scope, body)
    return _answer(service, data, question, await rank(service, scope, question))


DIRECT = {b"/v1/recommend": Direct(_recommend_now, _recommend)}
_ASKED = "mtaw_asked"  # key in a request's scope: what `_recommend_now` read, if it left the answer to `_recommend`


def _noted(
    service: Service,
    ranked: Ranked,
    route: str,
    data: RecommendRequest | ClickRequest,
    question: Question,
) -> dict[str, Any]:
    """Return the fields of the answer, after the ranking is watched and recorded."""
    snapshot, out, session = ranked.snapshot, ranked.out, question.session
    service.watch.ranked(snapshot, session, question.clicks, out.items)
    answer = ranked.answer(data.timings)
    if service.feedback is not None:
        service.recorder.record(
            snapshot, route, session, answer["recommendation"], out.items, out.fallback, data.rules, question.placed,
            out.draws, question.clicks,
        )  # fmt: skip
    return answer


@post(
    "/v1/recommend/batch",
    status_code=200,
    responses=errors(400, 403, 408, 413, 503),
    operation_class=operation("batch"),
)
async def recommend_batch(request: StrictRequest, data: Annotated[BatchRequest, Body()]) -> Response[BatchAnswer]:
    """Return the k best next items of many sessions, all from one bundle."""
    service = service_of(request)
    check_limits(data, data.sessions, service.settings.limits)
    snapshot = service.take(request, data.session_id)
    keywords, placed = ranking_keywords(data, data.session_id, snapshot, request.scope, service.settings)

    def work(_: float, check_deadline: Callable[[], None]) -> tuple[list[Recommendations], list[Answer], bytes]:
        check_batch(data, snapshot)
        rankings = rank_batch(snapshot, data, keywords, check_deadline)
        answers = [Answer(**answer_fields(snapshot, ranking, data.session_id)) for ranking in rankings]
        return rankings, answers, encoded(BatchAnswer(version=snapshot.version, answers=answers, bundle=snapshot.name))

    clicks, sessions = sum(map(len, data.sessions)), len(data.sessions)
    cost = cost_of(keywords, snapshot.recommender.n_items, clicks, sessions)
    rankings, answers, body = await service.queue.run_in_thread(work, cost)
    for session, ranking, answer in zip(data.sessions, rankings, answers, strict=True):
        count_ranking(service.metrics, snapshot.version, session, ranking, placed)
        service.recorder.record(
            snapshot, "batch", data.session_id, answer.recommendation, answer.items, answer.fallback, data.rules,
            placed, ranking.draws, session,
        )  # fmt: skip
    return Response(body, media_type=JSON)  # type: ignore[arg-type]


@post(
    "/v1/sessions/{session_id:str}/click", status_code=200, responses=errors(400, 401, 403, 408, 413, 503),
    operation_class=operation("click"),
)  # fmt: skip
async def click(
    request: StrictRequest,
    session_id: Annotated[str, Parameter(pattern=f"^{SESSION_ID}$", description="Chosen by the client.")],
    data: Annotated[ClickRequest, Body()],
) -> Response[ClickAnswer]:
    """Append clicks to a session that the service keeps, and rank for the whole session.

    A service that learns does so from these clicks as from those of /v1/events.
    """
    service = service_of(request)
    assert service.sessions is not None
    _check_line_end(session_id)
    # All of this before anything is stored: a client sends a refused request again.
    check_limits(data, (data.items,), service.settings.limits)
    reloader = service.bundles.of(session_id)
    snapshot = reloader.snapshot
    keywords, placed = ranking_keywords(data, session_id, snapshot, request.scope, service.settings)
    if data.rules is None:
        check_keywords(snapshot, keywords)
    else:
        keywords = await service.queue.run_in_thread(
            lambda *_: checked_rules(snapshot, keywords), cost_of(keywords, 0, 0)
        )
    check_clicks(snapshot, data.items, data.types, "the click")
    if data.reasons:
        clicks = [*await service.sessions.clicks(session_id), *data.items]
        check_reasons(data, (clicks[-service.settings.limits.clicks :],))
    context = snapshot.recommender.bundle.model.context
    if data.context is None and context is not None:
        kept = await service.sessions.context(session_id, None)
        if kept is not None:
            keywords["context"] = {name: kept[name] for name in context.columns.names if name in kept}
    await learn_clicks(service, request.scope, session_id, data.items, keywords.get("context"), data.types)
    clicks, types = await service.sessions.click(session_id, data.items, data.types)
    if data.context is not None:
        await service.sessions.context(session_id, data.context)
    question = Question(reloader, session_id, clicks, types, keywords, data.timings, placed)
    ranked = await rank(service, request.scope, question)
    answer = _noted(service, ranked, "click", data, question)
    # Only those of this request: each one before it named its own.
    if ranked.out.unknown:
        unknown = set(ranked.out.unknown)
        answer["unknown"] = [item for item in data.items if item in unknown]
    if ranked.out.unknown_values:
        pairs = [*(data.context or {}).items(), *(("type", kind) for kind in data.types or ())]
        sent = {f"{name}={value}" for name, value in pairs}
        answer["unknown_values"] = [value for value in ranked.out.unknown_values if value in sent]
    return json_response(ClickAnswer(clicks=len(clicks), **answer))


def _check_line_end(session_id: str) -> None:
    """Raise ServiceError if an id ends in a line end: Python's `$` in the route's pattern allows it."""
    if session_id.endswith("\n"):
        raise invalid("invalid_request", "the session's id in the path ends in a line end; see /openapi.json")


@get("/v1/sessions/{session_id:str}", responses=errors(400, 403, 404, 503), operation_class=operation("session"))
async def session(
    request: StrictRequest,
    session_id: Annotated[str, Parameter(pattern=f"^{SESSION_ID}$", description="The id that its clicks used.")],
) -> Response[SessionAnswer]:
    """Return the clicks of a session that the service keeps. This does not extend its time to live."""
    service = service_of(request)
    assert service.sessions is not None
    _check_line_end(session_id)
    clicks = await service.sessions.clicks(session_id)
    if not clicks:
        raise ServiceError(404, "unknown_session", "the service keeps no such session; it may have expired")
    return json_response(SessionAnswer(version=service.take(request, session_id).version, clicks=clicks))
