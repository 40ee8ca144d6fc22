"""From a decoded request to an answer, with one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import msgspec

from mtaw_fast.data.click_types import checked_types
from mtaw_fast.data.item_ids import refuse_other_type
from mtaw_fast.errors import UsageError, shown
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.ranking.options import EXPLORE_BELOW, options_of
from mtaw_fast.rules import RuleSet, rule_set_of
from mtaw_fast.service.errors import invalid
from mtaw_fast.service.http.access import has_token
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.ranking_ids import new_id
from mtaw_fast.service.routes.answers import Answer, BatchAnswer, ReasonAnswer, Timings
from mtaw_fast.service.routes.requests import BatchRequest, ClickRequest, RankingOptions, RecommendRequest, RulesRequest
from mtaw_fast.service.settings import Limits, Settings
from mtaw_fast.service.snapshot import Snapshot

LONG_LIST = 1000  # ids in `exclude` and `allow` from which a request runs in a thread, not on the event loop
_REASON_PAIRS = 10_000  # of click and result in a request with reasons: half a second on a busy machine
NO_EXPLORATION = (0.0, EXPLORE_BELOW)
_CHUNK = 32  # sessions of a batch between two checks of the deadline


def check_k(k: int, limits: Limits) -> None:
    """Raise ServiceError if a request asks for more results than the limits allow."""
    if k > limits.k:
        raise invalid("k_too_large", f"k is {k}, the most is {limits.k}; ask for less, or raise --max-k")


def check_limits(options: RankingOptions, sessions: Sequence[Sequence[Any]], limits: Limits) -> None:
    """Raise ServiceError if a request asks for more than the limits allow."""
    check_k(options.k, limits)
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
    check_reasons(options, sessions)


def check_fields(fields: Sequence[str], snapshot: Snapshot, scope: Any, settings: Settings) -> None:
    """Raise ServiceError if a request names a column that its sender may not read: without the token a private one.

    The error is the same for a column that does not exist, so that nobody learns which ones do.
    """
    if not fields:
        return
    table = snapshot.recommender.items
    readable: Collection[str] = () if table is None else table.columns if has_token(scope, settings) else table.public
    for name in fields:
        if name not in readable:
            raise invalid("unknown_field", f"there is no public column {shown(name, 80)}; see `fields` of /v1/bundle")


def check_reasons(options: RankingOptions, sessions: Sequence[Sequence[Any]]) -> None:
    """Raise ServiceError if a request asks for reasons that would take too long."""
    if not options.reasons:
        return
    pairs = 0
    for clicks in sessions:
        pairs += options.k * len(set(clicks))
        if pairs > _REASON_PAIRS:  # the other sessions are not looked at
            raise invalid(
                "too_many_reasons",
                f"the reasons for k={options.k} results compare more than {_REASON_PAIRS} pairs of click and result; "
                "ask for fewer results, or send fewer clicks",
            )


def request_rules(rules: RulesRequest | str | None, private: bool) -> RuleSet | str | None:
    """Return the rules of a request: checked, or the name of kept ones.

    private: whether they may use private columns. Raises UsageError on rules that no catalog could have.
    """
    return rule_set_of(msgspec.to_builtins(rules), not private) if isinstance(rules, RulesRequest) else rules


def check_options(snapshot: Snapshot, options: RankingOptions, rules: RuleSet | str | None) -> None:
    """Raise UsageError on a time or rules that `rank` would refuse. Requests that store something check this first.

    rules: the result of `request_rules`.
    """
    recommender = snapshot.recommender
    checked = options_of(recommender.catalog, options.k, at=options.at, rules=rules)
    if checked.rules is not None:
        checked.rules.check(recommender.items)


def exploration(options: RankingOptions, settings: Settings) -> tuple[float, int]:
    """Return the share of a list to explore, and the number of impressions from which an item is not explored."""
    return settings.explore_share if options.explore is None else options.explore, settings.explore_below


@dataclass(frozen=True, slots=True)
class Ranked:
    """The ranking of one session. waited: seconds in the queue; None if it was made in a batch, and has no timings."""

    snapshot: Snapshot
    out: Recommendations
    waited: float | None

    def answer(self, timings: bool, session: str | None = None) -> dict[str, Any]:
        """Return the fields of a `RecommendAnswer`. timings: whether to include them. session: its id, if known."""
        return {
            "version": self.snapshot.version,
            "bundle": self.snapshot.name,
            "timings": self.timings() if timings else None,
            **answer_fields(self.snapshot, self.out, session),
        }

    def timings(self) -> Timings | None:
        """Return the time of each stage."""
        if self.waited is None or self.out.timings is None:
            return None
        return Timings(queue=self.waited * 1e6, **self.out.timings)


def rank(
    snapshot: Snapshot,
    request: RecommendRequest | ClickRequest,
    session: Sequence[Any],
    waited: float,
    rules: RuleSet | str | None = None,
    explore: tuple[float, int] = NO_EXPLORATION,
) -> Ranked:
    """Rank one session, whose clicks have the types `request.types`.

    waited: seconds in the queue. rules: those of `request_rules`. explore: see `exploration`.
    """
    ranking = snapshot.recommender.recommend(
        session,
        request.k,
        types=request.types,
        exclude=request.exclude or (),
        allow=request.allow,
        exclude_seen=request.exclude_seen,
        at=request.at,
        context=request.context,
        timings=True,
        repeats=request.repeats,
        reasons=request.reasons,
        fields=request.fields,
        rules=rules,
        explore=explore[0],
        explore_below=explore[1],
    )
    return Ranked(snapshot, ranking, waited)


def rank_batched(
    snapshot: Snapshot,
    options: RankingOptions,
    sessions: Sequence[tuple[Sequence[Any], Sequence[str | None] | None]],
    waited: Sequence[float],
    metrics: Metrics,
    explore: tuple[float, int] = NO_EXPLORATION,
) -> list[Ranked]:
    """Rank sessions with equal options in one pass over the catalog; each ranking is the one of `rank`.

    sessions: the clicks of each, and their types.
    """
    start = perf_counter()
    typed = any(types is not None for _, types in sessions)
    rankings = snapshot.recommender.recommend_batch(
        [clicks for clicks, _ in sessions],
        options.k,
        types=[types for _, types in sessions] if typed else None,
        exclude_seen=options.exclude_seen,
        at=options.at,
        repeats=options.repeats,
        context=options.context,
        explore=explore[0],
        explore_below=explore[1],
    )
    metrics.stage("batched", (perf_counter() - start) * 1e6)
    metrics.add("mtaw_batched_answers_total", by=len(rankings))
    for seconds in waited:
        metrics.stage("queue", seconds * 1e6)
    return [Ranked(snapshot, ranking, None) for ranking in rankings]


def rank_batch(
    snapshot: Snapshot,
    request: BatchRequest,
    check_deadline: Callable[[], None],
    rules: RuleSet | str | None = None,
    explore: tuple[float, int] = NO_EXPLORATION,
) -> list[Recommendations]:
    """Rank the sessions of a batch request. `check_deadline` is called now and then. rules, explore: as in `rank`."""
    rankings: list[Recommendations] = []
    for number, session in enumerate(request.sessions):  # here, because a chunk numbers its sessions from 0
        refuse_other_type(snapshot.recommender.ids.kind, session, f"session {number}")
    check_batch_types(request)
    for begin in range(0, len(request.sessions), _CHUNK):
        check_deadline()
        rankings += snapshot.recommender.recommend_batch(
            request.sessions[begin : begin + _CHUNK],
            request.k,
            types=None if request.types is None else request.types[begin : begin + _CHUNK],
            exclude=request.exclude or (),
            allow=request.allow,
            exclude_seen=request.exclude_seen,
            at=request.at,
            context=request.context,
            repeats=request.repeats,
            reasons=request.reasons,
            fields=request.fields,
            rules=rules,
            explore=explore[0],
            explore_below=explore[1],
        )
    return rankings


def check_batch_types(request: BatchRequest) -> None:
    """Raise UsageError unless a batch has types, or none, for each of its sessions, and one for each click."""
    if request.types is None:
        return
    if len(request.types) != len(request.sessions):
        raise UsageError(
            f"types: there are {len(request.types)} lists for {len(request.sessions)} sessions; give one each"
        )
    for number, (session, types) in enumerate(zip(request.sessions, request.types, strict=True)):
        if types is not None:
            checked_types(f"types of session {number}", types, len(session))


def batch_answer(snapshot: Snapshot, rankings: Sequence[Recommendations], session: str | None) -> BatchAnswer:
    """Return the answer to a batch request. session: the id that came with it."""
    answers = [Answer(**answer_fields(snapshot, ranking, session)) for ranking in rankings]
    return BatchAnswer(version=snapshot.version, answers=answers, bundle=snapshot.name)


def count_rankings(
    metrics: Metrics,
    version: str,
    sessions: Sequence[Sequence[Any]],
    rankings: Sequence[Recommendations],
) -> None:
    """Count ranked sessions and their unknown clicks.

    Call it on the event loop only: a worker's counters have no lock.
    """
    metrics.add("mtaw_answers_total", by=len(rankings))
    metrics.count_by_version(version, "answers", len(rankings))
    fallbacks = sum(ranking.fallback for ranking in rankings)
    if fallbacks:
        metrics.add("mtaw_fallback_answers_total", by=fallbacks)
        metrics.count_by_version(version, "fallback", fallbacks)
    metrics.add("mtaw_clicks_total", by=sum(map(len, sessions)))
    metrics.add("mtaw_unknown_clicks_total", by=sum(len(ranking.unknown) for ranking in rankings))


def count_ranking(metrics: Metrics, version: str, session: Sequence[Any], ranked: Ranked) -> None:
    """Count what `count_rankings` does for one session, and the stages of its ranking."""
    ranking = ranked.out
    if ranked.waited is not None and ranking.timings is not None:
        metrics.stages(ranked.waited, ranking.timings)
    metrics.ranked(len(session), len(ranking.unknown))
    metrics.count_by_version(version, "answers")
    if ranking.fallback:
        metrics.add("mtaw_fallback_answers_total")
        metrics.count_by_version(version, "fallback")


def answer_fields(snapshot: Snapshot, out: Recommendations, session: str | None) -> dict[str, Any]:
    """Return the fields of an `Answer`. session: the session's id, if known."""
    return {
        "recommendation": new_id(snapshot.version, session),
        "items": out.items,
        "scores": out.scores.tolist(),
        "unknown": out.unknown,
        "fallback": out.fallback,
        "repeats": None if out.repeats is None else out.repeats.tolist(),
        "reasons": None
        if out.reasons is None
        else [ReasonAnswer(kind=reason.kind, items=list(reason.items), rule=reason.rule) for reason in out.reasons],
        "log_position": out.log_position,
        "fields": out.fields,
        "short": out.short,
        "explored": None if out.explored is None else out.explored.tolist(),
    }
