"""Candidates and features of the trends.

Axes: n own items (the latest 10), M entries of their rows, C candidates.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.export.whole import moment as then
from mtaw_fast.export.whole.moment import DAY, HOUR, QUARTER, Moment, TrendArrays, lanes_of
from mtaw_fast.export.whole.nodes import BOOL, DOUBLE, FLOAT, INT, LONG, Graph, Value
from mtaw_fast.export.whole.own import Own
from mtaw_fast.export.whole.ragged import ascending, entries, summed
from mtaw_fast.kernels.native.trend_tables import ITEM_LANES, PAIR_LANES
from mtaw_fast.memory.constants import FIRST_PAIR_LANE, OWN, PRE_LANES, RISING

_POPULAR = 100  # rising items whose popularity is part of the pre-score
_DECAY = 0.75  # of own items, by their place
_PAIRS = 2 * PAIR_LANES
_ITEM_LANES_SHOWN, _LAST_SHOWN, _OWN_SHOWN = (1, 2, 3, 4, 5), (0, 1, 2, 3), (1, 3)


class Trending:
    """Makes candidates and features from the rows of the own items at the moment."""

    def __init__(self, g: Graph, own: Own, when: Moment, trends: TrendArrays) -> None:
        self._g, self._when, self._trends = g, when, trends
        self._own = own.items.cut(0, OWN)
        n = self._own.size()
        self._weights = g.constant((_DECAY ** np.arange(OWN)).astype(np.float32)).cut(0, n).column(1)  # [n, 1]
        self._totals = trends.totals(g).at(self._own) * when.pairs  # [n, 10]
        self._own_totals = (self._totals * self._weights).reduced("Sum", 0)  # [10]
        fwd, bwd = self._totals.cut(0, PAIR_LANES, 1), self._totals.cut(PAIR_LANES, _PAIRS, 1)
        factors = self._weights * g.constant(np.array(PRE_LANES, np.float32)) / (fwd + bwd * 0.5 + 2.0)
        factors = factors * when.pairs.cut(0, PAIR_LANES)
        factors = g.where(factors < then.LEAST, 0.0, factors)
        pairs = entries(g, *trends.rows.begins_and_lengths(g, self._own))
        self.neighbors = trends.neighbors(g).at(pairs.at)  # [M]
        self._row = pairs.row
        raw = trends.values(g).at(pairs.at).to(FLOAT)  # [M, 10]
        self._values = raw * when.pairs
        self._pre = (raw * g.joined(factors, factors * 0.5, axis=1).at(pairs.row)).reduced("Sum", 1)  # [M]

    def candidates(self, allowed: Value, most: int) -> tuple[Value, Value]:
        """Return int32[..], distinct: the `most` best allowed items by pre-score, and the rising ones; float32[..].

        The second are the pre-scores, above 0.
        """
        g, trends = self._g, self._trends
        ids, counts = trends.rising
        popular = g.constant(ids[:_POPULAR])
        per = g.op("Reciprocal", self._when.everything + 1.0)
        decay = [self._since_listing(lane) for lane in (QUARTER, HOUR)]
        later = g.constant(counts[:_POPULAR, 0]) * (
            per.cut(ITEM_LANES + QUARTER, ITEM_LANES + QUARTER + 1) * 0.8 * decay[0]
        )
        clicked = g.constant(counts[:_POPULAR, 1]) * (per.cut(HOUR, HOUR + 1) * 0.3 * decay[1])
        candidates = g.joined(self._own, self.neighbors, popular)
        terms = g.joined(self._own.to(FLOAT) * 0.0, self._pre, later + clicked)
        n_items = trends.rows.offsets.size - 1
        items, slots = ascending(g, candidates, n_items)
        score = summed(g, items.size(), slots, terms.column(1), 1).flat()
        own_mask = g.full(items.size(), 0, BOOL).scattered(
            slots.cut(0, self._own.size()), g.full(self._own.size(), 1, BOOL)
        )
        eligible = allowed.at(items) & ~own_mask & (score > 0.0)
        best, places = g.top(g.where(eligible, score, 0.0), score.size().least(most))
        chosen = items.at(places.at(g.places(best > 0.0)))
        rising = g.constant(ids[:RISING])
        is_own = g.op(
            "ReduceMax", rising.column(1).same(self._own.column(0)).to(INT), g.constant(np.array([1])), keepdims=0
        )
        added = rising.at(g.places(allowed.at(rising) & is_own.same(0)))
        candidates = ascending(g, g.joined(chosen, added), n_items)[0]
        zeros = g.full(g.constant(np.array([n_items])), 0.0, FLOAT)
        return candidates, zeros.scattered(items, score).at(candidates).most(float(np.finfo(np.float32).tiny))

    def query_features(self) -> dict[str, Value]:
        """Return float32[1] by name; the times of the session's clicks are unknown here."""
        g, when = self._g, self._when
        last = self._own.cut(0, 1)
        counts = then.item_counts(g, last, when, self._trends).flat()
        hour = ITEM_LANES + HOUR
        everything = when.everything
        zero = everything.cut(0, 1) * 0.0
        sine, cosine = then.hour_of(g, when.requested)
        first, _ = then.ages(g, last, when, self._trends)
        return {
            "t_gap": zero,
            "t_span": zero,
            "t_last_age": (first.flat() / 60.0 + 1.0).log(),
            "t_last_later": ((counts.cut(hour, hour + 1) + 0.05) / (everything.cut(hour, hour + 1) + 1.0)).log(),
            "t_last_pairs": (self._totals.cut(0, 1).flat().cut(1, 2) + 1.0).log(),
            "t_pairs": (self._own_totals.cut(3, 4) + 1.0).log(),
            "t_clicks_short": (everything.cut(ITEM_LANES + QUARTER, ITEM_LANES + QUARTER + 1) + 1.0).log(),
            "t_clicks_long": (everything.cut(DAY, DAY + 1) + 1.0).log(),
            "t_hour_sin": sine,
            "t_hour_cos": cosine,
        }

    def features(self, candidates: Value, n_items: int) -> tuple[list[str], Value]:
        """Return names, and float32[C, 25] of candidates int32[C]."""
        g, when = self._g, self._when
        counts = then.item_counts(g, candidates, when, self._trends)  # [C, 14]
        everything = when.everything + 1.0
        shares = (counts + 0.05) / everything
        lanes = np.arange(FIRST_PAIR_LANE, ITEM_LANES)
        later = counts.at(g.constant(lanes_of(lanes.tolist(), "later")), 1)
        prior_of = everything.at(g.constant(lanes_of(lanes.tolist(), "later"))) + 9.0
        prior = (later + 0.02) * (g.op("Reciprocal", prior_of) * 3.0)
        prior = g.joined(prior, prior, axis=1)  # [C, 10]
        last_sums, own_sums, pre = self._sums(candidates, n_items)
        last_shares = (last_sums + prior) / (self._totals.cut(0, 1) + 3.0)
        own_shares = (own_sums + prior) / (self._own_totals + 3.0)
        popularity = (
            counts.cut(ITEM_LANES + QUARTER, ITEM_LANES + QUARTER + 1, 1)
            / everything.cut(ITEM_LANES + QUARTER, ITEM_LANES + QUARTER + 1)
            * 0.8
            + counts.cut(HOUR, HOUR + 1, 1) / everything.cut(HOUR, HOUR + 1) * 0.3
        )
        first, latest = then.ages(g, candidates, when, self._trends)
        names: list[str] = []
        columns: list[Value] = []

        def add(values: Value, shown: tuple[int, ...], kind: str, name: str) -> None:
            names.extend(f"{name}_{lane}" for lane in shown)
            columns.append(values.at(g.constant(lanes_of(shown, kind)), 1))

        add(shares, _ITEM_LANES_SHOWN, "all", "t_all")
        add(shares, _ITEM_LANES_SHOWN, "later", "t_later")
        add(last_shares, _LAST_SHOWN, "fwd", "t_fwd_last")
        add(last_shares, _LAST_SHOWN, "bwd", "t_bwd_last")
        add(own_shares, _OWN_SHOWN, "fwd", "t_fwd")
        add(own_shares, _OWN_SHOWN, "bwd", "t_bwd")
        names += ["t_pre", "t_first", "t_last"]
        columns += [pre + popularity + 1e-5, first / 60.0 + 1.0, latest + 1.0]
        return names, g.joined(*columns, axis=1).log()

    def _sums(self, candidates: Value, n_items: int) -> tuple[Value, Value, Value]:
        """Return the candidates' pairs with the last own item and with all, float32[C, 10], and pre-scores [C, 1]."""
        g = self._g
        unset = g.full(g.constant(np.array([n_items])), -1, INT)
        slots = unset.scattered(candidates, g.counted(candidates.size(), INT)).at(self.neighbors)
        places = g.places(slots >= 0)
        values, rows = self._values.at(places), self._row.at(places)
        is_last = rows.same(0).to(FLOAT).column(1)
        terms = g.joined(values * is_last, values * self._weights.at(rows), self._pre.at(places).column(1), axis=1)
        sums = summed(g, candidates.size(), slots.at(places).to(LONG), terms, 2 * _PAIRS + 1)
        return sums.cut(0, _PAIRS, 1), sums.cut(_PAIRS, 2 * _PAIRS, 1), sums.cut(2 * _PAIRS, 2 * _PAIRS + 1, 1)

    def _since_listing(self, lane: int) -> Value:
        """Return float32[1]: the share of a sum at the newest click that remains."""
        g, trends = self._g, self._trends
        age = (g.constant(np.array(trends.newest)) - self._when.now).to(DOUBLE) / float(trends.lives[lane])
        return g.op("Pow", g.constant(np.float64(2)), age, dtype=DOUBLE).to(FLOAT)
