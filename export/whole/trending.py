"""Candidates and features of the trends.

Axes: n own items (the latest 10), M entries of their rows, C candidates.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.export.whole import moment
from mtaw_fast.export.whole.moment import DAY, HOUR, QUARTER, Moment, TrendArrays, lanes_of
from mtaw_fast.export.whole.nodes import BOOL, FLOAT32, FLOAT64, INT32, INT64, Graph, Value
from mtaw_fast.export.whole.own import Own
from mtaw_fast.export.whole.tables import entries, segment_reduce, sorted_unique
from mtaw_fast.kernels.native.trend_tables import ITEM_LANES, PAIR_LANES
from mtaw_fast.memory.constants import FIRST_PAIR_LANE, OWN, PRE_LANES, RISING

_POPULAR = 100  # rising items whose popularity is part of the pre-score
_DECAY = 0.75  # the weight of an own item is _DECAY to the power of its rank, the latest item first
_PAIRS = 2 * PAIR_LANES
_ITEM_LANES_SHOWN, _LAST_SHOWN, _OWN_SHOWN = (1, 2, 3, 4, 5), (0, 1, 2, 3), (1, 3)


class Trending:
    """Candidates and features from the trends of the own items at the moment of a request."""

    def __init__(self, g: Graph, own: Own, when: Moment, trends: TrendArrays) -> None:
        self._g, self._when, self._trends = g, when, trends
        self._own = own.items.slice(0, OWN)
        n = self._own.length()
        self._weights = g.constant((_DECAY ** np.arange(OWN)).astype(np.float32)).slice(0, n).unsqueeze(1)  # [n, 1]
        self._totals = trends.read(g, "trend_totals").gather(self._own) * when.pairs  # [n, 10]
        self._own_totals = (self._totals * self._weights).reduce("Sum", 0)  # [10]
        fwd, bwd = self._totals.slice(0, PAIR_LANES, 1), self._totals.slice(PAIR_LANES, _PAIRS, 1)
        factors = self._weights * g.constant(np.array(PRE_LANES, np.float32)) / (fwd + bwd * 0.5 + 2.0)
        factors = factors * when.pairs.slice(0, PAIR_LANES)
        factors = g.where(factors < moment.MIN_FACTOR, 0.0, factors)
        pairs = entries(g, *trends.rows.begins_and_lengths(g, self._own))
        self.neighbors = trends.read(g, "trend_neighbors").gather(pairs.index)  # [M]
        self._row = pairs.row
        raw = trends.read(g, "trend_values").gather(pairs.index).cast(FLOAT32)  # [M, 10]
        self._values = raw * when.pairs
        self._pre = (raw * g.concat(factors, factors * 0.5, axis=1).gather(pairs.row)).reduce("Sum", 1)  # [M]

    def candidates(self, allowed: Value, count: int) -> tuple[Value, Value]:
        """Return distinct items int32[..] and their pre-scores float32[..], which are above 0.

        They are the `count` best allowed items by pre-score, and the allowed rising items.
        """
        g, trends = self._g, self._trends
        ids, counts = trends.rising
        popular = g.constant(ids[:_POPULAR])
        per_click = g.op("Reciprocal", self._when.everything + 1.0)
        decay = [self._decay_since_newest(lane) for lane in (QUARTER, HOUR)]
        later = g.constant(counts[:_POPULAR, 0]) * (
            per_click.slice(ITEM_LANES + QUARTER, ITEM_LANES + QUARTER + 1) * 0.8 * decay[0]
        )
        clicked = g.constant(counts[:_POPULAR, 1]) * (per_click.slice(HOUR, HOUR + 1) * 0.3 * decay[1])
        candidates = g.concat(self._own, self.neighbors, popular)
        terms = g.concat(self._own.cast(FLOAT32) * 0.0, self._pre, later + clicked)
        n_items = trends.rows.offsets.size - 1
        items, slots = sorted_unique(g, candidates, n_items)
        score = segment_reduce(g, items.length(), slots, terms.unsqueeze(1), 1).flatten()
        own_mask = g.full(items.length(), 0, BOOL).scatter(
            slots.slice(0, self._own.length()), g.full(self._own.length(), 1, BOOL)
        )
        eligible = allowed.gather(items) & ~own_mask & (score > 0.0)
        best, rows = g.topk(g.where(eligible, score, 0.0), score.length().minimum(count))
        chosen = items.gather(rows.gather(g.nonzero(best > 0.0)))
        rising = g.constant(ids[:RISING])
        is_own = g.op(
            "ReduceMax",
            rising.unsqueeze(1).equal(self._own.unsqueeze(0)).cast(INT32),
            g.constant(np.array([1])),
            keepdims=0,
        )
        added = rising.gather(g.nonzero(allowed.gather(rising) & is_own.equal(0)))
        candidates = sorted_unique(g, g.concat(chosen, added), n_items)[0]
        zeros = g.full(g.constant(np.array([n_items])), 0.0, FLOAT32)
        return candidates, zeros.scatter(items, score).gather(candidates).maximum(float(np.finfo(np.float32).tiny))

    def query_features(self) -> dict[str, Value]:
        """Return the features of the query by name, float32[1] each. The times of the clicks are unknown here."""
        g, when = self._g, self._when
        last = self._own.slice(0, 1)
        counts = moment.item_counts(g, last, when, self._trends).flatten()
        hour = ITEM_LANES + HOUR
        everything = when.everything
        zero = everything.slice(0, 1) * 0.0
        sine, cosine = moment.hour_of(g, when.requested)
        first, _ = moment.ages(g, last, when, self._trends)
        return {
            "t_gap": zero,
            "t_span": zero,
            "t_last_age": (first.flatten() / 60.0 + 1.0).log(),
            "t_last_later": ((counts.slice(hour, hour + 1) + 0.05) / (everything.slice(hour, hour + 1) + 1.0)).log(),
            "t_last_pairs": (self._totals.slice(0, 1).flatten().slice(1, 2) + 1.0).log(),
            "t_pairs": (self._own_totals.slice(3, 4) + 1.0).log(),
            "t_clicks_short": (everything.slice(ITEM_LANES + QUARTER, ITEM_LANES + QUARTER + 1) + 1.0).log(),
            "t_clicks_long": (everything.slice(DAY, DAY + 1) + 1.0).log(),
            "t_hour_sin": sine,
            "t_hour_cos": cosine,
        }

    def features(self, candidates: Value, n_items: int) -> tuple[list[str], Value]:
        """Return the names of the features, and their values float32[C, 25] for candidates int32[C]."""
        g, when = self._g, self._when
        counts = moment.item_counts(g, candidates, when, self._trends)  # [C, 14]
        everything = when.everything + 1.0
        shares = (counts + 0.05) / everything
        lanes = np.arange(FIRST_PAIR_LANE, ITEM_LANES)
        later = counts.gather(g.constant(lanes_of(lanes.tolist(), "later")), 1)
        prior_of = everything.gather(g.constant(lanes_of(lanes.tolist(), "later"))) + 9.0
        prior = (later + 0.02) * (g.op("Reciprocal", prior_of) * 3.0)
        prior = g.concat(prior, prior, axis=1)  # [C, 10]
        last_sums, own_sums, pre = self._sums(candidates, n_items)
        last_shares = (last_sums + prior) / (self._totals.slice(0, 1) + 3.0)
        own_shares = (own_sums + prior) / (self._own_totals + 3.0)
        popularity = (
            counts.slice(ITEM_LANES + QUARTER, ITEM_LANES + QUARTER + 1, 1)
            / everything.slice(ITEM_LANES + QUARTER, ITEM_LANES + QUARTER + 1)
            * 0.8
            + counts.slice(HOUR, HOUR + 1, 1) / everything.slice(HOUR, HOUR + 1) * 0.3
        )
        first, latest = moment.ages(g, candidates, when, self._trends)
        names: list[str] = []
        columns: list[Value] = []

        def add(values: Value, lanes: tuple[int, ...], kind: str, name: str) -> None:
            names.extend(f"{name}_{lane}" for lane in lanes)
            columns.append(values.gather(g.constant(lanes_of(lanes, kind)), 1))

        add(shares, _ITEM_LANES_SHOWN, "all", "t_all")
        add(shares, _ITEM_LANES_SHOWN, "later", "t_later")
        add(last_shares, _LAST_SHOWN, "fwd", "t_fwd_last")
        add(last_shares, _LAST_SHOWN, "bwd", "t_bwd_last")
        add(own_shares, _OWN_SHOWN, "fwd", "t_fwd")
        add(own_shares, _OWN_SHOWN, "bwd", "t_bwd")
        names += ["t_pre", "t_first", "t_last"]
        columns += [pre + popularity + 1e-5, first / 60.0 + 1.0, latest + 1.0]
        return names, g.concat(*columns, axis=1).log()

    def _sums(self, candidates: Value, n_items: int) -> tuple[Value, Value, Value]:
        """Return the sums of the candidates' pairs with the last own item, and with all own items: float32[C, 10] each.

        The third are the pre-scores float32[C, 1].
        """
        g = self._g
        unset = g.full(g.constant(np.array([n_items])), -1, INT32)
        slots = unset.scatter(candidates, g.arange(candidates.length(), INT32)).gather(self.neighbors)
        pairs = g.nonzero(slots >= 0)
        values, rows = self._values.gather(pairs), self._row.gather(pairs)
        is_last = rows.equal(0).cast(FLOAT32).unsqueeze(1)
        terms = g.concat(
            values * is_last, values * self._weights.gather(rows), self._pre.gather(pairs).unsqueeze(1), axis=1
        )
        sums = segment_reduce(g, candidates.length(), slots.gather(pairs).cast(INT64), terms, 2 * _PAIRS + 1)
        return sums.slice(0, _PAIRS, 1), sums.slice(_PAIRS, 2 * _PAIRS, 1), sums.slice(2 * _PAIRS, 2 * _PAIRS + 1, 1)

    def _decay_since_newest(self, lane: int) -> Value:
        """Return float32[1]: how much of a sum at the tables' newest click is left at the moment."""
        g, trends = self._g, self._trends
        age = (g.constant(np.array(trends.newest)) - self._when.now).cast(FLOAT64) / float(trends.half_lives[lane])
        return g.op("Pow", g.constant(np.float64(2)), age, dtype=FLOAT64).cast(FLOAT32)
