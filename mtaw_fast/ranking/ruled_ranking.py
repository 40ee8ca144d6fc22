"""Rankings under rules: what the rules make of the whole ranked catalog, from as much of the ranking as that takes.

The definition: rank everything that is allowed (`Conditions`, and the filter of the rules), with the ranker's score for
each candidate that a boost raises, add the boosts to the scores, sort, take from the top what the limits let through,
put the pins at their positions, and keep the first k.

A ranking of k items is the beginning of one of n > k items. So its first items are read, and more of them, until no
item behind them can change the result: none reaches a position through its boost (scores only fall behind the last one
that was read), and none is needed because a limit left others out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from mtaw_fast.ranking.answer import Reason, Recommendations, assembled
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.options import Conditions, Options
from mtaw_fast.rules import AppliedRules, Arranged, RuleSet

_GROWTH = 4  # how much more of a ranking is read when the first items do not suffice
_MAX_CELLS = 1 << 22  # of the rankings that are in memory at a time

# (rows int[R], how many items D, conditions) to (ids int32[R, D], scores float32[R, D]), padded with -1 / -inf.
Rank = Callable[[np.ndarray, int, Conditions], tuple[np.ndarray, np.ndarray]]


# A ranking under rules, and whether an approximate index found too few candidates for k items.
RuledRow = tuple[Arranged, bool]


def ruled_rows(
    catalog: Catalog,
    rules: RuleSet,
    clicks: list[np.ndarray],
    k: int,
    conditions: Conditions,
    rank: Rank,
    approximate_depth: int = 0,
) -> list[RuledRow]:
    """Return the rankings of B sessions under rules. Raises UsageError if the rules do not fit the item table.

    clicks: the known clicks of each session, oldest first; the last one's item is `current`. conditions: what else
    decides which items may be found. rank: ranks some of the sessions; its ranking of fewer items is the beginning of
    one of more. approximate_depth: above 0, the ranking is approximate up to this many items; then these are read, and
    what is behind them never.
    """
    rows: list[RuledRow | None] = [None] * len(clicks)
    n_items = max(1, catalog.n_items)  # an empty ranking too is read to its end
    for applied, sessions in _bound(catalog, rules, clicks):
        ruled_conditions = with_filter(conditions, applied)._replace(always_ranked=applied.raised)
        depth = applied.depth(k, n_items)
        final = depth <= approximate_depth and len(clicks[sessions[0]]) > 0
        if final:
            depth = min(approximate_depth, n_items)
        remaining = np.array(sessions)
        while len(remaining):
            unfinished = []
            for part in _parts(remaining, depth):
                ids, scores = rank(part, depth, ruled_conditions)
                for row, row_ids, row_scores in zip(part.tolist(), ids, scores, strict=True):
                    count = int(np.count_nonzero(row_ids >= 0))
                    whole = final or count < depth or depth >= n_items
                    pins = shown_pins(applied, conditions, clicks[row])
                    arranged = applied.arranged(row_ids[:count], row_scores[:count], k, whole, pins)
                    if arranged is None:
                        unfinished.append(row)
                    else:
                        rows[row] = arranged, final and count == depth and len(arranged.ids) < k
            remaining = np.array(unfinished, dtype=np.int64)
            depth = min(depth * _GROWTH, n_items)
    finished = [row for row in rows if row is not None]
    assert len(finished) == len(rows)
    return finished


def ruled_answer(
    catalog: Catalog, row: RuledRow, clicks: np.ndarray, unknown: list[Any], options: Options
) -> Recommendations:
    """Return a ranking under rules as an answer; parameters as in `assembled`."""
    arranged, ran_out = row
    answer = assembled(catalog, (arranged.ids, arranged.scores), clicks, unknown, options.repeats)
    short: Literal["rules", "candidates"] | None = None
    if len(arranged.ids) < options.k:
        short = "candidates" if ran_out else "rules"
    return answer if short is None else replace(answer, short=short)


def with_effects(reasons: list[Reason], boosts: np.ndarray, pinned: np.ndarray) -> list[Reason]:
    """Return the reasons of the arranged items, with what the rules did to each."""
    results = []
    for reason, boost, is_pinned in zip(reasons, boosts.tolist(), pinned.tolist(), strict=True):
        effect: Literal["pinned", "boosted", "buried"] | None
        effect = "pinned" if is_pinned else "boosted" if boost > 0 else "buried" if boost < 0 else None
        results.append(reason if effect is None else replace(reason, rule=effect))
    return results


def _bound(catalog: Catalog, rules: RuleSet, clicks: list[np.ndarray]) -> Iterator[tuple[AppliedRules, list[int]]]:
    """Group the sessions by what the rules mean for them."""
    groups: dict[tuple[int, bool], tuple[AppliedRules, list[int]]] = {}
    for session, session_clicks in enumerate(clicks):
        applied = catalog.bound_rules.bound(rules, int(session_clicks[-1]) if len(session_clicks) else None)
        # Sessions without clicks are ranked by popularity, which is never approximate.
        groups.setdefault((id(applied), len(session_clicks) > 0), (applied, []))[1].append(session)
    yield from groups.values()


def with_filter(conditions: Conditions, applied: AppliedRules) -> Conditions:
    """Return the conditions together with the filter of rules."""
    if applied.filter is None:
        return conditions
    allowed = applied.filter if conditions.allowed is None else conditions.allowed & applied.filter
    return conditions._replace(allowed=allowed)


def _parts(rows: np.ndarray, depth: int) -> Iterator[np.ndarray]:
    step = max(1, _MAX_CELLS // depth)
    for begin in range(0, len(rows), step):
        yield rows[begin : begin + step]


def shown_pins(applied: AppliedRules, conditions: Conditions, clicks: np.ndarray) -> list[tuple[int, int]]:
    """Return the pins of items that no condition removes."""
    allowed, excluded = conditions.allowed, conditions.excluded
    if not applied.pins or (allowed is None and excluded is None and not conditions.exclude_seen):
        return applied.pins

    def is_shown(item: int) -> bool:
        return not (
            (allowed is not None and not allowed.mask[item])
            or (excluded is not None and item in excluded)
            or (conditions.exclude_seen and item in clicks)
        )

    return [(position, item) for position, item in applied.pins if is_shown(item)]
