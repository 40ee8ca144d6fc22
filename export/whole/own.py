"""The session's own items: which, how often and how long ago, and the features that only own items have.

Axes: m clicks that count (at most 512), n distinct own items (at most 60), the latest first; "back" counts clicks from
the last one, which is 0.
`kernels/native/memory/features.hpp` has the definitions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtaw_fast.export.whole.nodes import FLOAT, INT, LONG, Graph, Value
from mtaw_fast.memory.constants import DECAY, MOST_CLICKS, NEAR

MOST_OWN = 60
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
    m = clicks.size()
    backs = g.counted(m)
    latest_first = clicks.at((m - 1) - backs)
    alike = latest_first.column(1).same(latest_first.column(0))  # [m, m]
    latest = g.op("ArgMax", alike.to(INT), axis=1, keepdims=0, dtype=LONG)
    back = g.places(latest.same(backs)).cut(0, MOST_OWN)
    items = latest_first.at(back)
    n = items.size()
    is_on = alike.at(back)  # [n, m]
    ones = is_on.to(FLOAT)
    weights = g.constant((np.float64(DECAY) ** np.arange(MOST_CLICKS)).astype(np.float32)).cut(0, m)
    decayed = (ones @ weights.column(1)).flat()
    decayed = decayed / decayed.reduced("Sum", 0, keep=True)
    count = ones.reduced("Sum", 1)
    first = g.where(is_on, backs, -1).reduced("Max", 1)
    before = g.where(is_on & (backs > back.column(1)), backs, 1 << 30).reduced("Min", 1)
    gap = before - back
    at_last = g.joined(alike.at(g.constant(np.array(0))).to(FLOAT), g.constant(np.zeros(NEAR, np.float32)))
    after = [at_last.cut(step, m + step) for step in range(1, NEAR + 1)]
    following = (ones @ after[0].column(1)).flat()
    near = (ones @ (after[0] + after[1] + after[2]).column(1)).flat()
    streak = g.op("ArgMin", at_last, axis=0, keepdims=1, dtype=LONG).to(FLOAT)
    all_clicks, is_last = m.to(FLOAT), back.same(0)
    rows = counts.at(items).to(FLOAT)  # clicks, sessions, repeated later, repeated at once, newest

    def odds(hits: int) -> Value:
        p = (rows.cut(hits, hits + 1, 1) + 1.0) / (rows.cut(0, 1, 1) + 10.0)
        return (p / (1.0 - p.least(0.999))).log().flat()

    back_float, zero = back.to(FLOAT), decayed * 0.0
    columns = {
        "own": zero + 1.0,
        "own_back": (back_float + 1.0).log(),
        "own_last": is_last.to(FLOAT),
        "own_count": count.log(),
        "own_share": count / all_clicks,
        "own_later": odds(2),
        "own_once": g.where(is_last, odds(3), 0.0),
        "own_next": (following + 1.0).log(),
        "own_near": (near + 1.0).log(),
        "own_first": (first.to(FLOAT) + 1.0).log(),
        "own_gap": g.where(gap < (1 << 20), 1.0, zero) / (gap.to(FLOAT) + 1.0),
        "own_streak": g.where(is_last, zero + streak.log(), 0.0),
        "own_rank": g.op("Reciprocal", g.counted(n).to(FLOAT) + 1.0),
    }
    features = g.joined(*(columns[name].column(1) for name in OWN_NAMES), axis=1)
    return Own(items, m, n, back, decayed, features, n.to(FLOAT), all_clicks)
