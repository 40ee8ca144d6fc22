"""The route of feedback: what was shown, clicked and bought of a ranking. It is stored and counted, not learned."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from litestar import Response, post
from litestar.params import Body

from mtaw_fast.data.item_ids import refuse_other_type
from mtaw_fast.service.errors import invalid, unavailable
from mtaw_fast.service.http.access import check_request_origin
from mtaw_fast.service.http.decoding import StrictRequest
from mtaw_fast.service.http.responses import encoded, json_response
from mtaw_fast.service.observability.service_log import log_event
from mtaw_fast.service.ranking_ids import is_id, is_of_session, version_in
from mtaw_fast.service.routes.messages import FeedbackAnswer, FeedbackRequest, Item
from mtaw_fast.service.routes.openapi import errors, operation
from mtaw_fast.service.state import service_of

_LOG_INTERVAL = 1.0  # seconds between two log lines about a failing store
_KINDS = ("shown", "clicked", "bought", "explored")
_COUNTED = _KINDS[:3]


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A stored line. time: Unix milliseconds. session: its id, if the client named it."""

    time: int
    recommendation: str
    version: str
    shown: list[Item]
    clicked: list[Item]
    bought: list[Item]
    explored: list[Item] = []
    session: str | None = None


class _Of(msgspec.Struct):
    """What a stored line says of its session."""

    recommendation: str
    session: str | None = None


def of_session(session: str) -> Callable[[bytes], bool]:
    """Return a function that tells whether a stored line belongs to a session."""

    def belongs(line: bytes) -> bool:
        try:
            found = msgspec.json.decode(line, type=_Of)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return False  # the empty line of a crash
        return found.session == session or is_of_session(found.recommendation, session)

    return belongs


@post("/v1/feedback", status_code=200, responses=errors(400, 403, 408, 413, 503), operation_class=operation("feedback"))
async def feedback(request: StrictRequest, data: Annotated[FeedbackRequest, Body()]) -> Response[FeedbackAnswer]:
    """Report what was shown, clicked and bought of a ranking. Once this answers, the report is stored."""
    service = service_of(request)
    store = service.feedback
    assert store is not None
    check_request_origin(request, service.settings)
    if not is_id(data.recommendation):
        raise invalid(
            "invalid_request", "`recommendation` is not the id of a ranking of this service; send the one in its answer"
        )
    reported: dict[str, list[Any]] = {}
    kind = service.reloader.snapshot.recommender.ids.kind
    for name in _KINDS:
        items = getattr(data, name)
        if len(items) > service.settings.limits.k:
            raise invalid(
                "k_too_large", f"`{name}` has {len(items)} items, a ranking has at most "
                f"{service.settings.limits.k}; report one ranking at a time",
            )  # fmt: skip
        refuse_other_type(kind, items, f"`{name}`")
        reported[name] = list(dict.fromkeys(items))
    version = version_in(data.recommendation)
    line = _Line(time=time.time_ns() // 1_000_000, recommendation=data.recommendation, version=version,
                 session=data.session, **reported)  # fmt: skip
    try:
        await store.keep(encoded(line))
    except Exception as error:  # disks and Redis raise errors of many types
        service.metrics.add("mtaw_feedback_refused_total")
        _log(error)
        raise unavailable("not_kept", f"the feedback could not be stored ({type(error).__name__}); try again") from None
    service.metrics.add("mtaw_feedback_total")
    service.metrics.count_first_by_version(version, {name: len(reported[name]) for name in _COUNTED})
    return json_response(FeedbackAnswer(version=service.take(request).version, of=version))


_last_logged = -_LOG_INTERVAL


def _log(error: Exception) -> None:
    """Log the type of a failure, once a second at most."""
    global _last_logged
    now = time.monotonic()
    if now - _last_logged >= _LOG_INTERVAL:
        _last_logged = now
        log_event("feedback_not_kept", level="error", reason=type(error).__name__)
