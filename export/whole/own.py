"""The session's own items: which, how often and how long ago, and the features that only own items have.

Axes: m clicks that count (at most 512), n distinct own items (at most 60), the latest first; "back" counts clicks from
the last one, which is 0.
`kernels/native/memory/features.hpp` has the definitions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtaw_fast.export.whole.nodes import FLOAT32, INT32, INT64, Graph, Value
from mtaw_fast.memory.constants import DECAY, MAX_CLICKS, NEAR

MAX_OWN = 60
OWN_NAMES = (
    "own", "own_back", "own_last", "own_count", "own_share", "own_later", "own_once", "own_next", "own_near",
    "own_first", "own_gap", "own_streak", "own_rank",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Own:
    """The own items of a session.

    items int32[n]; m, n int64[1]; back int64[n], of the latest click; decayed float32[n]: share in the sum of 0.8^back;
    features float32[n, 13]: OWN_NAMES; distinct, clicks float32[1].
    """

    items: Value
    m: Value
    n: Value
    back: Value
    decayed: Value
    features: Value
    distinct: Value
    clicks: Value


def own_items(g: Graph, clicks: Value, counts: Value) -> Own:
    """Return the own items of clicks int32[m], oldest first, m >= 1; counts: int32[N, 5] of the tables."""
    m = clicks.length()
    backs = g.arange(m)
    latest_first = clicks.gather((m - 1) - backs)
    alike = latest_first.unsqueeze(1).equal(latest_first.unsqueeze(0))  # [m, m]
    latest = g.op("ArgMax", alike.cast(INT32), axis=1, keepdims=0, dtype=INT64)
    back = g.nonzero(latest.equal(backs)).slice(0, MAX_OWN)
    items = latest_first.gather(back)
    n = items.length()
    is_on = alike.gather(back)  # [n, m]
    ones = is_on.cast(FLOAT32)
    weights = g.constant((np.float64(DECAY) ** np.arange(MAX_CLICKS)).astype(np.float32)).slice(0, m)
    decayed = (ones @ weights.unsqueeze(1)).flatten()
    decayed = decayed / decayed.reduce("Sum", 0, keep=True)
    count = ones.reduce("Sum", 1)
    first = g.where(is_on, backs, -1).reduce("Max", 1)
    before = g.where(is_on & (backs > back.unsqueeze(1)), backs, 1 << 30).reduce("Min", 1)
    gap = before - back
    at_last = g.concat(alike.gather(g.constant(np.array(0))).cast(FLOAT32), g.constant(np.zeros(NEAR, np.float32)))
    after = [at_last.slice(step, m + step) for step in range(1, NEAR + 1)]
    following = (ones @ after[0].unsqueeze(1)).flatten()
    near = (ones @ (after[0] + after[1] + after[2]).unsqueeze(1)).flatten()
    streak = g.op("ArgMin", at_last, axis=0, keepdims=1, dtype=INT64).cast(FLOAT32)
    all_clicks, is_last = m.cast(FLOAT32), back.equal(0)
    rows = counts.gather(items).cast(FLOAT32)  # clicks, sessions, repeated later, repeated at once, newest

    def odds(hits: int) -> Value:
        p = (rows.slice(hits, hits + 1, 1) + 1.0) / (rows.slice(0, 1, 1) + 10.0)
        return (p / (1.0 - p.minimum(0.999))).log().flatten()

    back_float, zero = back.cast(FLOAT32), decayed * 0.0
    columns = {
        "own": zero + 1.0,
        "own_back": (back_float + 1.0).log(),
        "own_last": is_last.cast(FLOAT32),
        "own_count": count.log(),
        "own_share": count / all_clicks,
        "own_later": odds(2),
        "own_once": g.where(is_last, odds(3), 0.0),
        "own_next": (following + 1.0).log(),
        "own_near": (near + 1.0).log(),
        "own_first": (first.cast(FLOAT32) + 1.0).log(),
        "own_gap": g.where(gap < (1 << 20), 1.0, zero) / (gap.cast(FLOAT32) + 1.0),
        "own_streak": g.where(is_last, zero + streak.log(), 0.0),
        "own_rank": g.op("Reciprocal", g.arange(n).cast(FLOAT32) + 1.0),
    }
    features = g.concat(*(columns[name].unsqueeze(1) for name in OWN_NAMES), axis=1)
    return Own(items, m, n, back, decayed, features, n.cast(FLOAT32), all_clicks)
