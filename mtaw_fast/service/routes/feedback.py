"""The route of feedback: what was shown, clicked and bought of a ranking. It is stored and counted, not learned."""

from __future__ import annotations

import time
from typing import Annotated, Any

from litestar import Response, post
from litestar.params import Body

from mtaw_fast.data.item_ids import refuse_other_type
from mtaw_fast.experiment.lines import BOUGHT, EXPLORED, KINDS, ReportLine
from mtaw_fast.service.errors import invalid, unavailable
from mtaw_fast.service.http.bodies import StrictRequest
from mtaw_fast.service.http.responses import json_response
from mtaw_fast.service.observability.metrics import VALUE_CELLS
from mtaw_fast.service.observability.service_log import log_event
from mtaw_fast.service.ranking_ids import is_id, version_in
from mtaw_fast.service.routes.answers import FeedbackAnswer
from mtaw_fast.service.routes.openapi import errors, operation
from mtaw_fast.service.routes.requests import FeedbackRequest, ReportedItem
from mtaw_fast.service.state import Service, service_of

_LOG_INTERVAL = 1.0  # seconds between two log lines about a failing store


@post("/v1/feedback", status_code=200, responses=errors(400, 403, 408, 413, 503), operation_class=operation("feedback"))
async def feedback(request: StrictRequest, data: Annotated[FeedbackRequest, Body()]) -> Response[FeedbackAnswer]:
    """Report what was shown, clicked and bought of a ranking. Once this answers, the report is stored."""
    service = service_of(request)
    store = service.feedback
    assert store is not None
    if not is_id(data.recommendation):
        raise invalid(
            "invalid_request", "`recommendation` is not the id of a ranking of this service; send the one in its answer"
        )
    version = version_in(data.recommendation)
    lines, counts, marks = _fresh(service, data, version)
    if lines:
        try:
            await store.keep(lines)
        except Exception as error:  # disks and Redis raise errors of many types
            service.metrics.add("mtaw_feedback_refused_total")
            _log(error)
            reason = f"the feedback could not be stored ({type(error).__name__}); try again"
            raise unavailable("not_kept", reason) from None
        if service.reports.has_any(marks):  # another request has stored the same meanwhile
            _, counts, marks = _fresh(service, data, version)
        service.reports.count(marks)
        service.metrics.count_first_by_version(version, counts)
    service.metrics.add("mtaw_feedback_total")
    return json_response(FeedbackAnswer(version=service.take(request).version, of=version, new=len(marks)))


def _fresh(service: Service, data: FeedbackRequest, version: str) -> tuple[list[ReportLine], dict[str, int], list[int]]:
    """Return the lines, the counts and the marks of the reported items that are new.

    Raises ServiceError (400) on too many items, or ids of another type.
    """
    id_kind, now = service.reloader.snapshot.recommender.ids.kind, time.time_ns() // 1_000_000
    lines: list[ReportLine] = []
    counts: dict[str, int] = {}
    all_marks: list[int] = []
    for kind in KINDS:
        entries: list[Any] = getattr(data, kind)
        if not entries:
            continue
        if len(entries) > service.settings.limits.k:
            raise invalid(
                "k_too_large", f"`{kind}` has {len(entries)} items, a ranking has at most "
                f"{service.settings.limits.k}; report one ranking at a time",
            )  # fmt: skip
        by_item = {entry.item: entry for entry in entries if type(entry) is ReportedItem}
        ids = [entry.item if type(entry) is ReportedItem else entry for entry in entries] if by_item else entries
        refuse_other_type(id_kind, ids, f"`{kind}`")
        marks = service.reports.fresh(data.recommendation, kind, ids)
        if not marks:
            continue
        items = list(marks)
        values, positions = [0.0] * len(items), [0] * len(items)
        if by_item:
            values = [by_item[item].value if item in by_item else 0.0 for item in items]
            positions = [by_item[item].position if item in by_item else 0 for item in items]
        lines.append(
            ReportLine(
                time=now, recommendation=data.recommendation, version=version, session=data.session or "", what=kind,
                items=items, positions=positions, values=values,
            )
        )  # fmt: skip
        if kind != EXPLORED:
            counts[kind] = len(items)
        if kind == BOUGHT:
            counts["value"] = round(VALUE_CELLS * sum(values))
        all_marks += marks.values()
    return lines, counts, all_marks


_last_logged = -_LOG_INTERVAL


def _log(error: Exception) -> None:
    """Log the type of a failure, once a second at most."""
    global _last_logged
    now = time.monotonic()
    if now - _last_logged >= _LOG_INTERVAL:
        _last_logged = now
        log_event("feedback_not_kept", level="error", reason=type(error).__name__)
