"""The route for what came of a recommendation. It is kept and counted; the memory learns nothing from it."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
from litestar import Response, post
from litestar.params import Body

from mtaw_fast.data.item_ids import refuse_other_type
from mtaw_fast.service.feedback.recommendation_ids import is_id, version_in
from mtaw_fast.service.http.answers import encoded, json_response
from mtaw_fast.service.http.decoding import StrictRequest
from mtaw_fast.service.http.openapi import errors, operation
from mtaw_fast.service.http.origin import check_request_origin
from mtaw_fast.service.http.problems import invalid, unavailable
from mtaw_fast.service.observability.service_log import log_event
from mtaw_fast.service.routes.messages import FeedbackAnswer, FeedbackRequest, Item
from mtaw_fast.service.state import service_of

_TOLD = 1.0  # seconds between two lines of the log about a store that fails
_KINDS = ("shown", "clicked", "bought")


class _Line(msgspec.Struct, kw_only=True):
    """What is kept. time: Unix milliseconds."""

    time: int
    recommendation: str
    version: str
    shown: list[Item]
    clicked: list[Item]
    bought: list[Item]


@post("/v1/feedback", status_code=200, responses=errors(400, 403, 408, 413, 503), operation_class=operation("feedback"))
async def feedback(request: StrictRequest, data: Annotated[FeedbackRequest, Body()]) -> Response[FeedbackAnswer]:
    """Tell what came of a recommendation: what was shown, clicked, bought. When this is answered it is kept."""
    service = service_of(request)
    store = service.feedback
    assert store is not None
    check_request_origin(request, service.settings)
    if not is_id(data.recommendation):
        raise invalid("invalid_request", "`recommendation` is no id of a ranking; send the one that its answer has")
    told: dict[str, list[Any]] = {}
    kind = service.reloader.snapshot.recommender.ids.kind
    for name in _KINDS:
        items = list(dict.fromkeys(getattr(data, name)))
        if len(items) > service.settings.limits.k:
            raise invalid(
                "k_too_large", f"`{name}` has {len(items)} items, the most that one ranking can hold is "
                f"{service.settings.limits.k}; tell of one ranking at a time",
            )  # fmt: skip
        refuse_other_type(kind, items, f"`{name}`")
        told[name] = items
    version = version_in(data.recommendation)
    line = _Line(time=time.time_ns() // 1_000_000, recommendation=data.recommendation, version=version, **told)
    try:
        await store.keep(encoded(line))
    except Exception as error:  # whatever a disk or a Redis may say
        service.metrics.add("mtaw_feedback_refused_total")
        _tell(error)
        raise unavailable("not_kept", f"the feedback could not be kept ({type(error).__name__}); try again") from None
    service.metrics.add("mtaw_feedback_total")
    service.metrics.count_first_by_version(version, {name: len(items) for name, items in told.items()})
    return json_response(FeedbackAnswer(version=service.take(request).version, of=version))


_last_told = -_TOLD


def _tell(error: Exception) -> None:
    """Log a failure by its type, once a second at most."""
    global _last_told
    now = time.monotonic()
    if now - _last_told >= _TOLD:
        _last_told = now
        log_event("feedback_not_kept", level="error", reason=type(error).__name__)
