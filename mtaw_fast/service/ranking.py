"""From a decoded request to an answer, by one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import msgspec

from mtaw_fast.errors import UsageError
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.service.messages import Answer, BatchAnswer, BatchRequest, SimilarAnswer, Timings, Wanted
from mtaw_fast.service.metrics import Metrics
from mtaw_fast.service.problems import ServiceError, invalid
from mtaw_fast.service.settings import Limits
from mtaw_fast.service.snapshot import Snapshot

_CHUNK = 32  # sessions of a batch between two looks at the deadline
_DIGITS = "0123456789"


def check_k(k: int, limits: Limits) -> None:
    """Raise ServiceError where more results are asked for than the limits allow."""
    if k > limits.k:
        raise invalid("k_too_large", f"k is {k}, the most is {limits.k}; ask for less, or raise --max-k")


def check_limits(wanted: Wanted, sessions: Sequence[Sequence[Any]], limits: Limits) -> None:
    """Raise ServiceError where more is asked for than the limits allow."""
    check_k(wanted.k, limits)
    if len(sessions) > limits.batch:
        raise invalid(
            "batch_too_large",
            f"there are {len(sessions)} sessions, the most is {limits.batch}; split them, or raise --max-batch",
        )
    for clicks in sessions:
        if len(clicks) > limits.clicks:
            raise invalid(
                "session_too_long",
                f"a session has {len(clicks)} clicks, the most is {limits.clicks}; send the last ones, or raise "
                "--max-clicks",
            )


@dataclass(frozen=True, slots=True)
class Ranked:
    """The ranking for one session, by the bundle of that version. timings: None where it was made with others."""

    version: str
    out: Recommendations
    timings: Timings | None


def rank(snapshot: Snapshot, wanted: Wanted, session: Sequence[Any], waited: float) -> Ranked:
    """The ranking for one session. waited: seconds in the queue."""
    out = snapshot.recommender.recommend(
        session,
        wanted.k,
        exclude=wanted.exclude or (),
        allow=wanted.allow,
        exclude_seen=wanted.exclude_seen,
        at=wanted.at,
        timings=True,
        repeats=wanted.repeats,
    )
    assert out.timings is not None
    return Ranked(snapshot.version, out, Timings(queue=waited * 1e6, **out.timings))


def rank_together(
    snapshot: Snapshot, wanted: Wanted, sessions: Sequence[Sequence[Any]], waited: Sequence[float], metrics: Metrics
) -> list[Ranked]:
    """The rankings for sessions that want the same, in one pass over the catalog: each the one that `rank` gives."""
    start = perf_counter()
    rankings = snapshot.recommender.recommend_batch(
        sessions, wanted.k, exclude_seen=wanted.exclude_seen, at=wanted.at, repeats=wanted.repeats
    )
    metrics.stage("joint", (perf_counter() - start) * 1e6)
    metrics.add("mtaw_joint_answers_total", by=len(rankings))
    for seconds in waited:
        metrics.stage("queue", seconds * 1e6)
    return [Ranked(snapshot.version, out, None) for out in rankings]


def rank_batch(snapshot: Snapshot, asked: BatchRequest, check_deadline: Callable[[], None]) -> list[Recommendations]:
    """The ranking for each session; `check_deadline` is called now and then."""
    rankings: list[Recommendations] = []
    for begin in range(0, len(asked.sessions), _CHUNK):
        check_deadline()
        rankings += snapshot.recommender.recommend_batch(
            asked.sessions[begin : begin + _CHUNK],
            asked.k,
            exclude=asked.exclude or (),
            allow=asked.allow,
            exclude_seen=asked.exclude_seen,
            at=asked.at,
            repeats=asked.repeats,
        )
    return rankings


def batch_answer(snapshot: Snapshot, rankings: Sequence[Recommendations]) -> BatchAnswer:
    """The rankings of a batch as they go out."""
    return BatchAnswer(version=snapshot.version, answers=[Answer(**answer_fields(out)) for out in rankings])


def similar(snapshot: Snapshot, item: str, k: int) -> SimilarAnswer:
    """The items nearest to one that a query names. Raises ServiceError where the catalog does not know it."""
    try:
        out = snapshot.recommender.similar_items(typed_id(snapshot, item), k)
    except UsageError:
        raise ServiceError(404, "unknown_item", "the catalog does not know the item; give one of its ids") from None
    return SimilarAnswer(version=snapshot.version, items=out.items, scores=out.scores.tolist())


def typed_id(snapshot: Snapshot, text: str) -> int | str:
    """An id as a query has it, of the type that the bundle's ids have."""
    if snapshot.recommender.ids.kind == "str":
        return text
    digits = text.removeprefix("-")
    if not digits or digits.strip(_DIGITS) or len(digits) > 20:  # int64 has 19
        raise invalid("invalid_item", "the item ids of this bundle are integers, and the item is none; give its digits")
    return int(text)


def count_rankings(
    metrics: Metrics,
    sessions: Sequence[Sequence[Any]],
    rankings: Sequence[Recommendations],
    timings: Timings | None = None,
) -> None:
    """Count the sessions that were ranked, what the catalog knew of them, and the stages of a single one.

    On the event loop alone: a worker's counters are not locked.
    """
    if timings is not None:
        for stage, microseconds in msgspec.structs.asdict(timings).items():
            if stage != "total" and microseconds is not None:
                metrics.stage(stage, microseconds)
    metrics.add("mtaw_answers_total", by=len(rankings))
    metrics.add("mtaw_fallback_answers_total", by=sum(out.fallback for out in rankings))
    metrics.add("mtaw_clicks_total", by=sum(map(len, sessions)))
    metrics.add("mtaw_unknown_clicks_total", by=sum(len(out.unknown) for out in rankings))


def answer_fields(out: Recommendations) -> dict[str, Any]:
    """What every ranking says, as the fields of an `Answer`."""
    return {
        "items": out.items,
        "scores": out.scores.tolist(),
        "unknown": out.unknown,
        "fallback": out.fallback,
        "repeats": None if out.repeats is None else out.repeats.tolist(),
        "learned": out.learned,
    }
