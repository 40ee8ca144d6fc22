"""From a checked request to rankings, each made with one snapshot, and from these to answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.rules import Placed
from mtaw_fast.service.bundles import Reloader
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.ranking_ids import new_id
from mtaw_fast.service.request_queue import BatchedWork
from mtaw_fast.service.routes.answers import ReasonAnswer, Timings
from mtaw_fast.service.routes.checks import check_clicks, cost_of, note_time, ranks_fast, with_rules
from mtaw_fast.service.routes.requests import BatchRequest
from mtaw_fast.service.snapshot import Snapshot
from mtaw_fast.service.state import Service

# A request with more of one of these runs in a thread, not on the event loop.
LONG_LIST = 1000  # ids in `exclude` and `allow`
_LONG_SESSION = 300  # clicks
_MANY_VALUES = 1000  # values of columns
_CHUNK = 32  # sessions of a batch between two checks of the deadline


@dataclass(slots=True)  # not frozen, as below: one of that kind takes three times as long to make
class Question:
    """A session to rank.

    session: its id, if known. keywords, placed: see `ranking_keywords`. timings: whether they are reported.
    """

    reloader: Reloader
    session: str | None
    clicks: Sequence[Any]
    types: Sequence[str | None] | None
    keywords: dict[str, Any]
    timings: bool
    placed: Placed | None

    @property
    def is_long(self) -> bool:
        """Whether it is ranked in a thread, not on the event loop."""
        asked = self.keywords
        return len(self.clicks) > _LONG_SESSION or (
            len(asked) > 1  # than k
            and (
                "reasons" in asked
                or ("rules" in asked and not ranks_fast(asked["rules"]))
                or "allow" in asked
                or len(asked.get("exclude", ())) > LONG_LIST
                or asked["k"] * len(asked.get("fields", ())) > _MANY_VALUES
            )
        )

    def ranked(self, waited: float = 0.0) -> Ranked:
        """Rank. waited: seconds in the queue."""
        snapshot = self.reloader.snapshot
        out = snapshot.recommender.recommend(self.clicks, types=self.types, timings=True, **with_rules(self.keywords))
        if out.timings is not None:
            note_time(self.keywords.get("rules"), out.timings["total"])
        return Ranked(snapshot, out, waited, answer_fields(snapshot, out, self.session))


@dataclass(slots=True)
class Ranked:
    """The ranking of one session.

    waited: seconds in the queue; None if it was made in a batch, and has no timings. fields: see `answer_fields`.
    """

    snapshot: Snapshot
    out: Recommendations
    waited: float | None
    fields: dict[str, Any]

    def answer(self, timings: bool) -> dict[str, Any]:
        """Return the fields of a `RecommendAnswer`, once. timings: whether to include them."""
        answer = self.fields
        answer["version"], answer["bundle"] = self.snapshot.version, self.snapshot.name
        if timings and self.waited is not None and self.out.timings is not None:
            answer["timings"] = Timings(queue=self.waited * 1e6, **self.out.timings)
        return answer


def rank_now(service: Service, scope: Any, question: Question) -> Ranked | None:
    """Rank a session at once, as `rank` does; return None if it has to wait."""
    if not service.queue.is_free() or question.is_long:
        return None
    return _counted(service, scope, question, question.ranked())


async def rank(service: Service, scope: Any, question: Question) -> Ranked:
    """Rank a session, in a thread if that takes long, and count it. The response names the bundle's version."""
    if question.is_long:
        n_items = question.reloader.snapshot.recommender.n_items
        cost = cost_of(question.keywords, n_items, len(question.clicks))
        ranked = await service.queue.run_in_thread(lambda waited, _: question.ranked(waited), cost)
    elif service.queue.is_free():
        ranked = question.ranked()
    else:
        ranked = await service.queue.run(question.ranked, _batched(service.metrics, question))
    return _counted(service, scope, question, ranked)


def _counted(service: Service, scope: Any, question: Question, ranked: Ranked) -> Ranked:
    service.name_version(scope, ranked.snapshot.version)
    if ranked.waited is not None and ranked.out.timings is not None:
        service.metrics.stages(ranked.waited, ranked.out.timings)
    count_ranking(service.metrics, ranked.snapshot.version, question.clicks, ranked.out, question.placed)
    return ranked


def _batched(metrics: Metrics, question: Question) -> BatchedWork | None:
    """Return how a session is ranked in one pass over the catalog with others that wait, as it would be alone.

    None unless that is faster: with an index that reads the whole catalog. Raises UsageError as `check_clicks`: in a
    batch, the error would fail every session.
    """
    reloader, keywords = question.reloader, question.keywords
    snapshot = reloader.snapshot
    if "exclude" in keywords or "fields" in keywords or question.timings or snapshot.recommender.index.name != "native":
        return None
    check_clicks(snapshot, question.clicks, question.types, "the session")
    same = tuple(
        (name, tuple(sorted(value.items())) if name == "context" else value) for name, value in keywords.items()
    )

    def work(sessions: list[Any], waited: list[float]) -> list[Ranked]:
        snapshot, start = reloader.snapshot, perf_counter()
        typed = any(types is not None for _, types, _ in sessions)
        rankings = snapshot.recommender.recommend_batch(
            [clicks for clicks, _, _ in sessions],
            types=[types for _, types, _ in sessions] if typed else None,
            **keywords,
        )
        metrics.stage("batched", (perf_counter() - start) * 1e6)
        metrics.add("mtaw_batched_answers_total", by=len(rankings))
        for seconds in waited:
            metrics.stage("queue", seconds * 1e6)
        return [
            Ranked(snapshot, ranking, None, answer_fields(snapshot, ranking, session))
            for ranking, (_, _, session) in zip(rankings, sessions, strict=True)
        ]

    return BatchedWork((id(reloader), same), (question.clicks, question.types, question.session), work)


def rank_batch(
    snapshot: Snapshot, request: BatchRequest, keywords: dict[str, Any], check_deadline: Callable[[], None]
) -> list[Recommendations]:
    """Rank the sessions of a batch; `check_deadline` is called now and then. keywords: see `ranking_keywords`."""
    rankings: list[Recommendations] = []
    keywords = with_rules(keywords)
    for begin in range(0, len(request.sessions), _CHUNK):
        check_deadline()
        part = slice(begin, begin + _CHUNK)
        types = None if request.types is None else request.types[part]
        rankings += snapshot.recommender.recommend_batch(request.sessions[part], types=types, **keywords)
    return rankings


def count_ranking(
    metrics: Metrics, version: str, clicks: Sequence[Any], ranking: Recommendations, placed: Placed | None
) -> None:
    """Count a ranked session and its unknown clicks, on the event loop only: a worker's counters have no lock."""
    metrics.ranked(len(clicks), len(ranking.unknown))
    metrics.count_by_version(version, "answers")
    if ranking.fallback:
        metrics.add("mtaw_fallback_answers_total")
        metrics.count_by_version(version, "fallback")
    if placed is not None:
        metrics.count_placed(placed)


def answer_fields(snapshot: Snapshot, out: Recommendations, session: str | None) -> dict[str, Any]:
    """Return the fields of an `Answer`. session: the session's id, if known."""
    fields: dict[str, Any] = {
        "recommendation": new_id(snapshot.version, session),
        "items": out.items,
        "scores": out.scores.tolist(),
        "unknown": out.unknown,
        "fallback": out.fallback,
        "log_position": out.log_position,
        "fields": out.fields,
        "short": out.short,
    }
    if out.unknown_values:
        fields["unknown_values"] = list(out.unknown_values)
    if out.repeats is not None:
        fields["repeats"] = out.repeats.tolist()
    if out.reasons is not None:
        fields["reasons"] = [
            ReasonAnswer(kind=reason.kind, items=list(reason.items), rule=reason.rule) for reason in out.reasons
        ]
    if out.explored is not None:
        fields["explored"] = out.explored.tolist()
    return fields
