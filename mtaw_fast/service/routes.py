"""The routes that rank. Each takes one snapshot, at the moment that its work begins, and answers from it alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import parse_qs

from litestar import Response, get, post
from litestar.params import Body, Parameter

from mtaw_fast.data.item_ids import refuse_other_type
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.service.answers import JSON, encoded, json_response
from mtaw_fast.service.decoding import StrictRequest, decoded
from mtaw_fast.service.learning import SESSION_ID, learn_clicks
from mtaw_fast.service.messages import (
    AskLimits,
    BatchAnswer,
    BatchRequest,
    BundleAnswer,
    ClickAnswer,
    ClickRequest,
    RecommendAnswer,
    RecommendRequest,
    SimilarAnswer,
)
from mtaw_fast.service.openapi import errors, operation
from mtaw_fast.service.origin import check_request_origin
from mtaw_fast.service.problems import invalid
from mtaw_fast.service.ranking import (
    Ranked,
    answer_fields,
    batch_answer,
    check_k,
    check_limits,
    count_rankings,
    rank,
    rank_batch,
    rank_together,
    similar,
)
from mtaw_fast.service.request_queue import Joint
from mtaw_fast.service.state import Service, service_of

_LONG_LIST = 1000  # ids in conditions from which a request no longer runs on the event loop


@post("/v1/recommend", status_code=200, responses=errors(400, 408, 413, 503), operation_class=operation("recommend"))
async def recommend(request: StrictRequest, data: Annotated[RecommendRequest, Body()]) -> Response[RecommendAnswer]:
    """The k best next items of one session."""
    return Response(await _recommend(service_of(request), request.scope, data), media_type=JSON)  # type: ignore[arg-type]


async def _recommend(service: Service, scope: Any, data: RecommendRequest) -> bytes:
    check_limits(data, (data.session,), service.settings.limits)
    ranked = await _ranked(scope, service, data, data.session)
    timings = ranked.timings if data.timings else None
    return encoded(RecommendAnswer(version=ranked.version, timings=timings, **answer_fields(ranked.out)))


async def _recommend_directly(service: Service, scope: Any, body: bytes) -> bytes:
    return await _recommend(service, scope, decoded(body, RecommendRequest))


Direct = Callable[[Service, Any, bytes], Awaitable[bytes]]  # from the whole body of a POST to the JSON of its answer
DIRECT: dict[str, Direct] = {"/v1/recommend": _recommend_directly}


@post("/v1/recommend/batch", status_code=200, responses=errors(400, 408, 413, 503), operation_class=operation("batch"))
async def recommend_batch(request: StrictRequest, data: Annotated[BatchRequest, Body()]) -> Response[BatchAnswer]:
    """The k best next items of many sessions, all by one bundle."""
    service = service_of(request)
    check_limits(data, data.sessions, service.settings.limits)
    snapshot = service.take(request)

    def work(_: float, check_deadline: Callable[[], None]) -> tuple[list[Recommendations], bytes]:
        rankings = rank_batch(snapshot, data, check_deadline)
        return rankings, encoded(batch_answer(snapshot, rankings))

    rankings, body = await service.queue.run_aside(work)
    count_rankings(service.metrics, data.sessions, rankings)
    return Response(body, media_type=JSON)  # type: ignore[arg-type]


@get("/v1/similar", responses=errors(400, 404, 503), operation_class=operation("similar"))
async def similar_items(
    request: StrictRequest,
    item: Annotated[  # noqa: ARG001 (for the OpenAPI document: the query is read strictly below)
        str, Parameter(description="An item's id; digits where the bundle's ids are integers.")
    ],
    k: Annotated[int, Parameter(description="How many results at most.", ge=1)] = 20,
) -> Response[SimilarAnswer]:
    """The items nearest to one."""
    service = service_of(request)
    check_k(k, service.settings.limits)
    wanted = _query_item(request.scope["query_string"])
    return json_response(await service.queue.run(lambda _: similar(service.take(request), wanted, k)))


@post(
    "/v1/sessions/{session_id:str}/click", status_code=200, responses=errors(400, 403, 408, 413, 503),
    operation_class=operation("click"),
)  # fmt: skip
async def click(
    request: StrictRequest,
    session_id: Annotated[str, Parameter(pattern=f"^{SESSION_ID}$", description="Chosen by the client.")],
    data: Annotated[ClickRequest, Body()],
) -> Response[ClickAnswer]:
    """Append clicks to a session that the server keeps, and rank for all of it."""
    service = service_of(request)
    assert service.sessions is not None
    check_request_origin(request, service.settings.own_names)
    check_limits(data, (data.items,), service.settings.limits)
    refuse_other_type(service.reloader.snapshot.recommender.ids.kind, data.items, "the click")  # before it is kept
    await learn_clicks(service, session_id, data.items)
    clicks = await service.sessions.click(session_id, data.items)
    ranked = await _ranked(request.scope, service, data, clicks)
    timings = ranked.timings if data.timings else None
    return json_response(
        ClickAnswer(version=ranked.version, clicks=len(clicks), timings=timings, **answer_fields(ranked.out))
    )


@get("/v1/bundle", operation_class=operation("bundle"))
async def bundle(request: StrictRequest) -> Response[BundleAnswer]:
    """What is served."""
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
        )
    )


async def _ranked(
    scope: Any, service: Service, asked: RecommendRequest | ClickRequest, session: list[int | str]
) -> Ranked:
    """The ranking of a session; off the event loop where the conditions are long."""

    # Here and not in the queue, where it would fail together with the sessions that are ranked with it.
    refuse_other_type(service.reloader.snapshot.recommender.ids.kind, session)

    def work(waited: float) -> Ranked:
        return rank(service.reloader.snapshot, asked, session, waited)

    if asked.allow is None and len(asked.exclude) <= _LONG_LIST:
        ranked = await service.queue.run(work, _joint(service, asked, session))
    else:
        ranked = await service.queue.run_aside(lambda waited, _: work(waited))
    service.name_version(scope, ranked.version)
    count_rankings(service.metrics, [session], [ranked.out], ranked.timings)
    return ranked


def _joint(service: Service, asked: RecommendRequest | ClickRequest, session: list[int | str]) -> Joint | None:
    """How a request is ranked together with others, where that is faster: in an index that reads the whole catalog."""
    if asked.exclude or asked.timings or service.reloader.snapshot.recommender.index.name != "scan":
        return None

    def work(sessions: list[Any], waited: list[float]) -> list[Ranked]:
        return rank_together(service.reloader.snapshot, asked, sessions, waited, service.metrics)

    return Joint((asked.k, asked.exclude_seen, asked.repeats, asked.at), session, work)


def _query_item(query: bytes) -> str:
    """The `item` of a query string, strictly UTF-8."""
    try:
        values = parse_qs(query.decode(), keep_blank_values=True, errors="strict").get("item", [])
    except UnicodeDecodeError:
        raise invalid("invalid_item", "the query is not UTF-8; percent-encode the item's UTF-8 bytes") from None
    if len(values) != 1:
        raise invalid("invalid_item", f"the query names {len(values)} items; name one, with ? & = % + percent-encoded")
    return values[0]
