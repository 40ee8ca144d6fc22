"""Select items: which are allowed, the dense list, the k positions of a ranking, and the ranking without a known click.

Axes: N items, C candidates, D dense items.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.export.whole.features import Dense
from mtaw_fast.export.whole.moment import DAY, HOUR, QUARTER, Moment, TrendArrays, item_counts
from mtaw_fast.export.whole.nodes import BOOL, FLOAT32, INT32, INT64, Graph, Value
from mtaw_fast.kernels.native.trend_tables import ITEM_LANES

NOTHING = float(-np.inf)
_FEW_SESSIONS, _CROWD_SHARE = 15.0, 0.001  # as in the kernels' trends.cpp


def allowed_items(g: Graph, exclude: Value, allow: Value, use_allow: Value, n_items: int) -> Value:
    """Return bool[N + 1]: the items that may be found, and a last element for unknown ids.

    exclude, allow: internal ids int64[..], -1 if unknown.
    """
    everything = g.op("Expand", ~use_allow, g.constant(np.array([n_items + 1])))
    marked = everything.scatter(_with_unknown_last(g, allow, n_items), g.full(allow.length(), 1, BOOL))
    banned = g.full(exclude.length(), 0, BOOL)
    return marked.scatter(_with_unknown_last(g, exclude, n_items), banned)


def without_seen(g: Graph, allowed: Value, clicks: Value, exclude_seen: Value, n_items: int) -> Value:
    """Return bool[N]: `allowed` without the session's own clicks int32[m] if exclude_seen bool[1]."""
    seen = g.where(exclude_seen, clicks.cast(INT64), n_items)
    unseen = allowed.scatter(seen, g.full(clicks.length(), 0, BOOL))
    return unseen.slice(0, n_items)


def dense_items(g: Graph, logits: Value, allowed: Value, count: Value) -> Dense:
    """Return the best `count` (int64[1]) allowed items by the encoder's logits float32[N]."""
    best_logits, items = g.topk(g.where(allowed, logits, NOTHING), count)
    valid = g.nonzero(best_logits > NOTHING)
    return Dense(items.gather(valid).cast(INT32), best_logits.gather(valid), logits)


def ranked(g: Graph, items: Value, scores: Value, k: Value) -> tuple[Value, Value]:
    """Return the best k candidates, or all if there are fewer, and their scores.

    items: int32[C]. scores: float32[C].
    """
    best_scores, indices = g.topk(scores, scores.length().minimum(k))
    return items.gather(indices), best_scores


def with_dense(g: Graph, best: tuple[Value, Value], candidates: tuple[Value, Value], dense: Dense, scale: float,
               n_items: int) -> tuple[Value, Value]:  # fmt: skip
    """Return the ranked candidates, followed by the other items of the dense list.

    The score of such an item is the lowest candidate's, less the difference of its logit to the highest possible one.

    best: the ranked candidates and their scores. candidates: all candidates and their scores.
    """
    items, scores = candidates
    empty = g.full(g.constant(np.array([n_items])), 0, BOOL)
    listed = empty.scatter(items, g.full(items.length(), 1, BOOL))
    rest = g.nonzero(~listed.gather(dense.items))
    below = _lowest(g, scores) - (g.constant(np.float32(scale)) - dense.logits.gather(rest).minimum(scale))
    return g.concat(best[0], dense.items.gather(rest)), g.concat(best[1], below)


def below(g: Graph, scores: Value, quick: Value) -> Value:
    """Return scores float32[..] for the candidates that the ranker did not score, in the order of their quick scores.

    The first gets the lowest score of the ranked ones, where the native ranker takes the next smaller number.

    scores: of the ranked ones. quick: the quick scores of the others, descending.
    """
    return _lowest(g, scores) - (quick.slice(0, 1) - quick)


def _lowest(g: Graph, scores: Value) -> Value:
    """Return the lowest score float32[1]; 0 if there is none."""
    lowest = g.op("ReduceMin", g.concat(scores, g.constant(np.array([np.inf], np.float32))), keepdims=1, dtype=FLOAT32)
    return g.where(lowest < float(np.inf), lowest, 0.0)


def padded(g: Graph, items: Value, scores: Value, k: Value) -> tuple[Value, Value]:
    """Return the first k, padded with -1 and -inf: (int64[k], float32[k])."""
    items = g.concat(items.cast(INT64), g.full(k, -1, INT64)).slice(0, k)
    return items, g.concat(scores, g.full(k, NOTHING, FLOAT32)).slice(0, k)


def _with_unknown_last(g: Graph, ids: Value, n_items: int) -> Value:
    """Return the ids, with N in place of the negative ones, which are unknown."""
    return g.where(ids < 0, n_items, ids)


def most_clicked(g: Graph, order: np.ndarray, clicks: np.ndarray, allowed: Value) -> tuple[Value, Value]:
    """Return all allowed items int32[..] and their clicks float32[..]. order: int32[N]. allowed: bool[N]."""
    ids = g.table("most_clicked", order)
    rows = g.nonzero(allowed.gather(ids))
    return ids.gather(rows), g.table("most_clicks", clicks[order].astype(np.float32)).gather(rows)


def rising(
    g: Graph, order: np.ndarray, clicks: np.ndarray, allowed: Value, when: Moment, trends: TrendArrays
) -> tuple[Value, Value]:
    """Return the ranking of a session without a known click: items int32[..] and scores float32[..].

    The allowed rising items come first, then the other allowed ones by clicks, each with a score 1 lower than the one
    before it. order: int32[N], the items by clicks. clicks: int64[N]. allowed: bool[N].
    """
    ids = g.constant(np.sort(trends.rising[0]))  # ascending, so that ties go to the lower id
    counts = item_counts(g, ids, when, trends)

    def lane(column: int) -> Value:
        return counts.slice(column, column + 1, 1).flatten()

    # The sessions of a small crowd are no trend.
    week = when.everything.slice(ITEM_LANES - 1, ITEM_LANES)
    crowd = (week * float(_CROWD_SHARE * trends.half_lives[HOUR] / trends.half_lives[ITEM_LANES - 1])).maximum(
        _FEW_SESSIONS
    )
    share = (lane(HOUR) / crowd).minimum(1e4)
    fourth = share * share * share * share
    trusted = fourth * fourth / (fourth * fourth + 1.0)
    fast = trusted * (lane(QUARTER) + lane(HOUR) * 0.25) + lane(DAY) * 0.02
    usual = (lane(DAY) + 1.0) * float(trends.half_lives[HOUR] / trends.half_lives[DAY])
    speed = fast * g.op("Sqrt", (trusted * lane(HOUR) + 1.0) / usual)
    speeds, rows = g.topk(speed, speed.length())
    ordered = ids.gather(rows)
    allowed_rows = g.nonzero(allowed.gather(ordered) & (speeds > 0))  # what has faded to 0 does not rise
    items, scores = ordered.gather(allowed_rows), speeds.gather(allowed_rows)
    empty = g.full(g.constant(np.array([len(order)])), 0, BOOL)
    listed = empty.scatter(ids, speed > 0)
    rest, _ = most_clicked(g, order, clicks, allowed & ~listed)
    zero = g.constant(np.zeros(1, np.float32))
    lowest = g.op("ReduceMin", g.concat(scores, zero), keepdims=1, dtype=FLOAT32)
    below = lowest - 1.0 - g.arange(rest.length()).cast(FLOAT32)
    return g.concat(items, rest.cast(INT32)), g.concat(scores, below)
