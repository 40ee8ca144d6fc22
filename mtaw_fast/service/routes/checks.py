"""What a request that ranks may ask for. Each of its checks is made once, before it is ranked or anything is stored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from mtaw_fast.data.click_types import checked_types
from mtaw_fast.data.item_ids import refuse_other_type
from mtaw_fast.data.moments import moment_of
from mtaw_fast.errors import UsageError, shown
from mtaw_fast.items import ItemTable
from mtaw_fast.ranking.options import options_of
from mtaw_fast.rules import Placed, RuleSet, rule_set_of_text
from mtaw_fast.service.errors import invalid
from mtaw_fast.service.http.access import has_token
from mtaw_fast.service.json_codec import encoded
from mtaw_fast.service.routes.requests import BatchRequest, RankingOptions, RulesRequest
from mtaw_fast.service.settings import Limits, Settings
from mtaw_fast.service.snapshot import Snapshot

_REASON_PAIRS = 10_000  # of click and result in a request with reasons: half a second on a busy machine
# How much of each takes as long as ranking a short session (medians on 3,000 items, 2026-12-02).
_SCANNED, _CLICKS, _RESULTS, _PAIRS, _IDS, _RULES = 20_000, 50, 200, 180, 1000, 64
_SLOW_RANKING = 10_000.0  # microseconds; rules that take longer are no longer applied on the event loop
_SLOW: WeakSet[RuleSet] = WeakSet()
_FLAGS_AND_LISTS = "exclude", "exclude_seen", "repeats", "reasons", "fields"  # empty or false by default
_MAY_BE_NONE = "allow", "context"


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
    if len(sessions) > 1 or options.fields:  # else k is within its own limit
        results = options.k * len(sessions) * (1 + len(options.fields))
        if results > limits.results:
            raise invalid(
                "answer_too_large",
                f"k={options.k} for {len(sessions)} sessions, with {len(options.fields)} fields each, is an answer of "
                f"{results} values, the most is {limits.results}; ask for less, or raise --max-results",
            )
    if options.reasons:
        check_reasons(options, sessions)


def check_reasons(options: RankingOptions, sessions: Sequence[Sequence[Any]]) -> None:
    """Raise ServiceError if a request asks for reasons that would take too long."""
    pairs = 0
    for clicks in sessions:
        pairs += options.k * len(set(clicks))
        if pairs > _REASON_PAIRS:  # the other sessions are not looked at
            raise invalid(
                "too_many_reasons",
                f"the reasons for k={options.k} results compare more than {_REASON_PAIRS} pairs of click and result; "
                "ask for fewer results, or send fewer clicks",
            )


def ranking_keywords(
    request: RankingOptions, session: str | None, snapshot: Snapshot, scope: Any, settings: Settings
) -> tuple[dict[str, Any], Placed | None]:
    """Return the keywords of `Recommender.recommend` and `recommend_batch` that a request asks for, and `k`.

    session: its id, if known. scope: ASGI's, of the request. Pass them through `with_rules` before use. With them comes
    what the request's placement gives. Raises ServiceError on a column that its sender may not read.
    """
    keywords: dict[str, Any] = {"k": request.k}  # those with their defaults would cost every request microseconds
    for name in _FLAGS_AND_LISTS:
        if value := getattr(request, name):
            keywords[name] = value
    for name in _MAY_BE_NONE:
        if (value := getattr(request, name)) is not None:
            keywords[name] = value
    at = request.at
    if at is not None:
        at = keywords["at"] = at if isinstance(at, int) else moment_of("at", at)
    if request.fields:
        check_fields(request.fields, snapshot, scope, settings)
    placed = None
    if request.placement is not None:
        placed = snapshot.recommender.catalog.placements.placed(request.placement, at, session)
    rules = request_rules(request.rules, placed, snapshot, scope, settings)
    if rules is not None:
        keywords["rules"] = rules
    share = request.explore
    if share is None and len(snapshot.recommender.catalog.new_items):  # without any, nothing can be explored
        share = settings.explore_share
    if share:
        keywords |= {"explore": share, "explore_below": settings.explore_below}
    return keywords, placed


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


@dataclass(frozen=True, slots=True)
class SentRules:
    """Rules of a request, as JSON.

    public_only: whether they may use public columns only. placed: what they may go together with. table: of the items.
    """

    text: str
    public_only: bool
    placed: Placed | None = None
    table: ItemTable | None = None

    @property
    def cost(self) -> float:
        """What it is estimated to cost to parse them, in the unit of `cost_of`."""
        return len(self.text) / _RULES

    def parsed(self) -> RuleSet:
        """Return the rules, checked. It may take milliseconds. Raises UsageError if no catalog could have them."""
        own = rule_set_of_text(self.text, self.public_only)
        return own if self.placed is None else self.placed.with_own(own, self.table) or own


def request_rules(
    rules: RulesRequest | None, placed: Placed | None, snapshot: Snapshot, scope: Any, settings: Settings
) -> SentRules | RuleSet | None:
    """Return the rules of a request: without the token on public columns only; else those of its placement."""
    if rules is None:
        return None if placed is None else placed.rules
    return SentRules(encoded(rules).decode(), not has_token(scope, settings), placed, snapshot.recommender.items)


def ranks_fast(rules: SentRules | RuleSet) -> bool:
    """Return whether rules are parsed, and a ranking with them takes about as long as one without."""
    return isinstance(rules, RuleSet) and not rules.boosts and not rules.current and rules not in _SLOW


def note_time(rules: SentRules | RuleSet | None, microseconds: float) -> None:
    """Note how long a ranking took: a limit that few items meet can read the whole catalog."""
    if microseconds > _SLOW_RANKING and isinstance(rules, RuleSet):
        _SLOW.add(rules)


def with_rules(keywords: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords with their rules parsed: not on the event loop. Raises UsageError as `SentRules.parsed`."""
    rules = keywords.get("rules")
    return {**keywords, "rules": rules.parsed()} if isinstance(rules, SentRules) else keywords


def cost_of(keywords: dict[str, Any], n_items: int, clicks: int, sessions: int = 1) -> float:
    """Return what a request is estimated to cost; 1 is a ranking of a short session over a small catalog.

    keywords: see `ranking_keywords`. clicks: of all sessions.
    """
    asked, k, rules = keywords.get, keywords["k"], keywords.get("rules")
    cost: float = sessions * (1 + n_items / _SCANNED) + clicks / _CLICKS
    cost += sessions * k * (1 + len(asked("fields", ()))) / _RESULTS
    cost += (len(asked("exclude", ())) + len(asked("allow", ()))) / _IDS
    if asked("reasons"):
        cost += k * clicks / _PAIRS
    return cost + rules.cost if isinstance(rules, SentRules) else cost


def check_keywords(snapshot: Snapshot, keywords: dict[str, Any]) -> None:
    """Raise UsageError on what a ranking with these keywords would refuse: requests that store something ask first."""
    recommender = snapshot.recommender
    checked = options_of(recommender.catalog, **keywords)
    if checked.rules is not None:
        checked.rules.check(recommender.items)


def checked_rules(snapshot: Snapshot, keywords: dict[str, Any]) -> dict[str, Any]:
    """Return what `with_rules` does, after `check_keywords`. Raises UsageError as both."""
    keywords = with_rules(keywords)
    check_keywords(snapshot, keywords)
    return keywords


def check_clicks(snapshot: Snapshot, items: Sequence[Any], types: Sequence[str | None] | None, where: str) -> None:
    """Raise UsageError if no click has an id of the catalog's type, or there is not one type for each."""
    refuse_other_type(snapshot.recommender.ids.kind, items, where)
    if types is not None:
        checked_types("types", types, len(items))


def check_batch(request: BatchRequest, snapshot: Snapshot) -> None:
    """Do what `check_clicks` does for each session. A ranking would number them from 0 in each part of the batch."""
    sessions, types = request.sessions, request.types
    for number, session in enumerate(sessions):
        refuse_other_type(snapshot.recommender.ids.kind, session, f"session {number}")
    if types is None:
        return
    if len(types) != len(sessions):
        raise UsageError(f"types: there are {len(types)} lists for {len(sessions)} sessions; give one each")
    for number, (session, of_session) in enumerate(zip(sessions, types, strict=True)):
        if of_session is not None:
            checked_types(f"types of session {number}", of_session, len(session))
