"""The trends at the time of a request: sums of items and pairs, decayed from the time of the export to then.

Lanes are half-lives: seven of items (all clicks, then clicks that are not their session's first), the last five of
pairs (fwd, then bwd). `kernels/native/trends/features.hpp` has the definitions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtaw_fast.export.whole.nodes import FLOAT32, FLOAT64, Graph, Value
from mtaw_fast.export.whole.tables import BFLOAT16, Rows
from mtaw_fast.kernels.native.trend_tables import ITEM_LANES, PAIR_LANES
from mtaw_fast.memory.constants import FIRST_PAIR_LANE, NEVER, NEVER_AGE, STALE
from mtaw_fast.memory.trends import TrendTables

QUARTER, HOUR, DAY = 2, 3, 5  # item lanes
MIN_FACTOR = 2.0**-50  # a smaller factor counts as 0
_MAX_TIME = 1 << 52
_MAX_RISING = 256
_DAY_MS = 24 * 3600 * 1000


class TrendArrays:
    """The tables, and the items that were rising at their newest click."""

    def __init__(self, tables: TrendTables) -> None:
        self.tables = tables
        self.half_lives = np.array(tables.settings.half_lives_ms, np.int64)
        self.newest = int(tables.clock[-1])
        self.rows = Rows("trend_offsets", tables.row_offsets)
        self.rising = rising_items(tables)

    def read(self, g: Graph, name: str) -> Value:
        """Return a table as a value of a graph.

        `trend_values` bfloat16[P, 10], `trend_neighbors` int32[P], `trend_totals` float32[N, 10], `trend_counts`
        float32[N, 14], `trend_times` int64[N, 2].
        """
        array = getattr(self.tables, name.removeprefix("trend_"))
        return g.table(name, array.view(BFLOAT16) if name == "trend_values" else array)


@dataclass(frozen=True, slots=True)
class Moment:
    """The time of a request, and what it makes of the tables.

    requested: int64[1], the time that the request gives. now: the same, but not before the tables' newest click.
    items: float32[14], pairs: float32[10], the factors that decay the tables' sums to now. everything: float32[14], the
    counts of all items together.
    """

    requested: Value
    now: Value
    items: Value
    pairs: Value
    everything: Value

    def inside(self, g: Graph) -> Moment:
        """Return the same moment for use in an inner graph."""
        return Moment(
            *(g.outer(value) for value in (self.requested, self.now, self.items, self.pairs, self.everything))
        )


def moment(g: Graph, requested: Value, trends: TrendArrays, *, ranks: bool = True) -> Moment:
    """Return the moment of a request. requested: int64[1], Unix ms. ranks: whether old evidence counts as `STALE`."""
    latest = min(trends.newest + STALE, _MAX_TIME) if ranks else _MAX_TIME
    now = requested.maximum(trends.newest).minimum(max(latest, trends.newest))
    begin = g.constant(trends.tables.clock[:-1] * trends.half_lives)
    age = (begin - now).cast(FLOAT64) / g.constant(trends.half_lives.astype(np.float64))
    power = g.op("Pow", g.constant(np.float64(2)), age, dtype=FLOAT64).cast(FLOAT32)
    lanes = g.where(power < MIN_FACTOR, 0.0, power)
    pair_lanes = lanes.slice(FIRST_PAIR_LANE, ITEM_LANES)
    items, pairs = g.concat(lanes, lanes), g.concat(pair_lanes, pair_lanes)
    everything = (g.constant(trends.tables.sums) * items.cast(FLOAT64)).cast(FLOAT32)
    return Moment(requested, now, items, pairs, everything)


def hour_of(g: Graph, requested: Value) -> list[Value]:
    """Return sine and cosine of the time of day: float32[1] each."""
    day = g.op("Mod", requested.maximum(0), g.constant(np.array(_DAY_MS)))
    angle = (day.cast(FLOAT64) * (2 * math.pi / _DAY_MS)).cast(FLOAT32)
    return [g.op("Sin", angle), g.op("Cos", angle)]


def item_counts(g: Graph, items: Value, when: Moment, trends: TrendArrays) -> Value:
    """Return the decayed counts float32[.., 14] of items int[..]."""
    return trends.read(g, "trend_counts").gather(items) * when.items


def ages(g: Graph, items: Value, when: Moment, trends: TrendArrays) -> tuple[Value, Value]:
    """Return the seconds since the first and since the last click on items int[..]: float32[.., 1] each."""
    times = trends.read(g, "trend_times").gather(items)
    seconds = ((when.now - times).maximum(0).cast(FLOAT32) * 1e-3).minimum(NEVER_AGE)
    is_known = times > NEVER
    columns = [(is_known.slice(side, side + 1, 1), seconds.slice(side, side + 1, 1)) for side in (0, 1)]
    return g.where(columns[0][0], columns[0][1], 0.0), g.where(columns[1][0], columns[1][1], NEVER_AGE)


def rising_items(tables: TrendTables) -> tuple[np.ndarray, np.ndarray]:
    """Return the rising items as the engine lists them when it loads the tables: (ids int32[R], float32[R, 2]).

    The columns, at the newest click: later clicks in lane QUARTER, and all clicks in lane HOUR.
    """
    counts, newest = tables.counts, int(tables.clock[-1])
    popular: set[int] = set()
    for lane in (ITEM_LANES + QUARTER, HOUR, DAY):
        order = np.argsort(-counts[:, lane], kind="stable")[:_MAX_RISING]
        popular |= set(order[counts[order, lane] > 0].tolist())
    ids = np.array(sorted(popular), np.int32)
    half_lives = tables.settings.half_lives_ms
    power = np.array(
        [2.0 ** ((int(e) * h - newest) / h) for e, h in zip(tables.clock, half_lives, strict=False)], np.float32
    )
    power[power < MIN_FACTOR] = 0
    sums = counts[ids] * np.tile(power, 2)
    later, total = sums[:, ITEM_LANES + QUARTER], sums[:, HOUR]
    score = later + 0.25 * sums[:, QUARTER] + 0.5 * sums[:, ITEM_LANES + QUARTER - 1] + 0.1 * total
    order = np.lexsort((ids, -score))
    order = order[score[order] > 0][:_MAX_RISING]
    return ids[order], np.stack([later[order], total[order]], 1).astype(np.float32)


def lanes_of(lanes: Sequence[int], kind: str) -> np.ndarray:
    """Return int64[..]: the columns of half-lives in a row of sums.

    lanes: indices of half-lives. kind: 'all' or 'later' for items, 'fwd' or 'bwd' for pairs.
    """
    return np.array(lanes) + {"all": 0, "later": ITEM_LANES, "fwd": 0, "bwd": PAIR_LANES}[kind]
