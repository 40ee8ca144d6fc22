"""The ranking without a known click: the most clicked items, or with trends the rising ones."""

from __future__ import annotations

import numpy as np

from mtaw_fast.export.whole.moment import DAY, HOUR, QUARTER, Moment, TrendArrays, item_counts
from mtaw_fast.export.whole.nodes import BOOL, FLOAT, INT, Graph, Value


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

    def lane(of: int) -> Value:
        return counts.cut(of, of + 1, 1).flat()

    fast = lane(QUARTER) + lane(HOUR) * 0.25 + lane(DAY) * 0.02
    usual = (lane(DAY) + 1.0) * float(trends.lives[HOUR] / trends.lives[DAY])
    speed = fast * g.op("Sqrt", (lane(HOUR) + 1.0) / usual)
    speeds, places = g.top(speed, speed.size())
    ordered = ids.at(places)
    kept = g.places(allowed.at(ordered))
    found, scores = ordered.at(kept), speeds.at(kept)
    none = g.full(g.constant(np.array([len(order)])), 0, BOOL)
    listed = none.scattered(ids, g.constant(np.ones(len(trends.rising[0]), bool)))
    rest, _ = most_clicked(g, order, clicks, allowed & ~listed)
    zero = g.constant(np.zeros(1, np.float32))
    lowest = g.op("ReduceMin", g.joined(scores, zero), keepdims=1, dtype=FLOAT)
    below = lowest - 1.0 - g.counted(rest.size()).to(FLOAT)
    return g.joined(found, rest.to(INT)), g.joined(scores, below)
