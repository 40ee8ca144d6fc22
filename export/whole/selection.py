"""Select items: which are allowed, the dense list, the k places of a ranking, and the ranking without a known click.

Axes: N items, C candidates, D dense items.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.export.whole.features import Dense
from mtaw_fast.export.whole.moment import DAY, HOUR, QUARTER, Moment, TrendArrays, item_counts
from mtaw_fast.export.whole.nodes import BOOL, FLOAT, INT, LONG, Graph, Value
from mtaw_fast.kernels.native.trend_tables import ITEM_LANES

NOTHING = float(-np.inf)
_FEW_SESSIONS, _CROWD_SHARE = 15.0, 0.001  # as in the kernels' trends.cpp


def allowed_items(g: Graph, exclude: Value, allow: Value, use_allow: Value, n_items: int) -> Value:
    """Return bool[N + 1]: the items that may be found, and a last place for unknown ids.

    exclude, allow: internal ids int64[..], -1 if unknown.
    """
    everything = g.op("Expand", ~use_allow, g.constant(np.array([n_items + 1])))
    marked = everything.scattered(_inside(g, allow, n_items), g.full(allow.size(), 1, BOOL))
    banned = g.full(exclude.size(), 0, BOOL)
    return marked.scattered(_inside(g, exclude, n_items), banned)


def without_seen(g: Graph, allowed: Value, clicks: Value, exclude_seen: Value, n_items: int) -> Value:
    """Return bool[N]: `allowed` without the session's own clicks int32[m] if exclude_seen bool[1]."""
    seen = g.where(exclude_seen, clicks.to(LONG), n_items)
    unseen = allowed.scattered(seen, g.full(clicks.size(), 0, BOOL))
    return unseen.cut(0, n_items)


def dense_items(g: Graph, logits: Value, allowed: Value, count: Value) -> Dense:
    """Return the best `count` (int64[1]) allowed items by the encoder's logits float32[N]."""
    best_logits, places = g.top(g.where(allowed, logits, NOTHING), count)
    valid = g.places(best_logits > NOTHING)
    return Dense(places.at(valid).to(INT), best_logits.at(valid), logits)


def ranked(g: Graph, items: Value, scores: Value, k: Value) -> tuple[Value, Value]:
    """Return the best k of candidates int32[C], or all if there are fewer."""
    best_scores, places = g.top(scores, scores.size().least(k))
    return items.at(places), best_scores


def with_dense(g: Graph, best: tuple[Value, Value], candidates: tuple[Value, Value], dense: Dense, scale: float,
               n_items: int) -> tuple[Value, Value]:  # fmt: skip
    """Return the ranked candidates, followed by the other items of the dense list.

    Their scores are below the lowest candidate, by the difference of their logit to the highest possible one.
    candidates: all of them, and their scores.
    """
    items, scores = candidates
    empty = g.full(g.constant(np.array([n_items])), 0, BOOL)
    listed = empty.scattered(items, g.full(items.size(), 1, BOOL))
    rest = g.places(~listed.at(dense.items))
    below = _lowest(g, scores) - (g.constant(np.float32(scale)) - dense.logits.at(rest).least(scale))
    return g.joined(best[0], dense.items.at(rest)), g.joined(best[1], below)


def below(g: Graph, scores: Value, quick: Value) -> Value:
    """Return scores for candidates that were not ranked, by quick score: from the lowest of the ranked ones' down.

    The first has that score too, where the native ranker goes to the next smaller number.
    """
    return _lowest(g, scores) - (quick.cut(0, 1) - quick)


def _lowest(g: Graph, scores: Value) -> Value:
    """Return float32[1]: 0 without any."""
    lowest = g.op("ReduceMin", g.joined(scores, g.constant(np.array([np.inf], np.float32))), keepdims=1, dtype=FLOAT)
    return g.where(lowest < float(np.inf), lowest, 0.0)


def padded(g: Graph, items: Value, scores: Value, k: Value) -> tuple[Value, Value]:
    """Return the first k, padded with -1 and -inf: (int64[k], float32[k])."""
    items = g.joined(items.to(LONG), g.full(k, -1, LONG)).cut(0, k)
    return items, g.joined(scores, g.full(k, NOTHING, FLOAT)).cut(0, k)


def _inside(g: Graph, ids: Value, n_items: int) -> Value:
    """Return the ids, with N for unknown ones."""
    return g.where(ids < 0, n_items, ids)


def most_clicked(g: Graph, order: np.ndarray, clicks: np.ndarray, allowed: Value) -> tuple[Value, Value]:
    """Return all allowed items int32[..] and their clicks float32[..]. order: int32[N]. allowed: bool[N]."""
    ids = g.table("most_clicked", order)
    places = g.places(allowed.at(ids))
    return ids.at(places), g.table("most_clicks", clicks[order].astype(np.float32)).at(places)


def rising(
    g: Graph, order: np.ndarray, clicks: np.ndarray, allowed: Value, when: Moment, trends: TrendArrays
) -> tuple[Value, Value]:
    """Return the allowed items that are rising at the moment, then the most clicked ones, 1 lower a place."""
    ids = g.constant(np.sort(trends.rising[0]))  # ascending, so that ties go to the lower id
    counts = item_counts(g, ids, when, trends)

    def lane(column: int) -> Value:
        return counts.cut(column, column + 1, 1).flat()

    # The sessions of a small crowd are no trend.
    week = when.everything.cut(ITEM_LANES - 1, ITEM_LANES)
    crowd = (week * float(_CROWD_SHARE * trends.lives[HOUR] / trends.lives[ITEM_LANES - 1])).most(_FEW_SESSIONS)
    share = (lane(HOUR) / crowd).least(1e4)
    fourth = share * share * share * share
    trusted = fourth * fourth / (fourth * fourth + 1.0)
    fast = trusted * (lane(QUARTER) + lane(HOUR) * 0.25) + lane(DAY) * 0.02
    usual = (lane(DAY) + 1.0) * float(trends.lives[HOUR] / trends.lives[DAY])
    speed = fast * g.op("Sqrt", (trusted * lane(HOUR) + 1.0) / usual)
    speeds, places = g.top(speed, speed.size())
    ordered = ids.at(places)
    allowed_places = g.places(allowed.at(ordered))
    items, scores = ordered.at(allowed_places), speeds.at(allowed_places)
    empty = g.full(g.constant(np.array([len(order)])), 0, BOOL)
    listed = empty.scattered(ids, g.constant(np.ones(len(trends.rising[0]), bool)))
    rest, _ = most_clicked(g, order, clicks, allowed & ~listed)
    zero = g.constant(np.zeros(1, np.float32))
    lowest = g.op("ReduceMin", g.joined(scores, zero), keepdims=1, dtype=FLOAT)
    below = lowest - 1.0 - g.counted(rest.size()).to(FLOAT)
    return g.joined(items, rest.to(INT)), g.joined(scores, below)
