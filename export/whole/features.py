"""The pool of all items that were found, its candidates, and their features and scores.

Axes: A entries, U items in the pool (own ones first), C candidates, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtaw_fast.export.whole.nodes import BOOL, DOUBLE, FLOAT, INT, LONG, Graph, Value
from mtaw_fast.export.whole.own import OWN_NAMES, Own
from mtaw_fast.export.whole.pairs import LANES, neighbors, second_neighbors
from mtaw_fast.export.whole.ragged import first_of_each, summed
from mtaw_fast.export.whole.similar import Similar
from mtaw_fast.export.whole.tables import Memory
from mtaw_fast.kernels.native.memory_query import QuerySettings
from mtaw_fast.memory import RankerNet
from mtaw_fast.memory.constants import SIMILAR

_PRE_BITS, _QUICK_BITS = 3, 6  # a pre-score is less than 2^3, a quick score than 2^6: trending < 10, 12 second < 12.1


@dataclass(frozen=True, slots=True)
class Dense:
    """The encoder's best allowed items, best first: items int32[D], logits float32[D]; all_logits float32[N]."""

    items: Value
    logits: Value
    all_logits: Value


class Pool:
    """The items that were found in any way, with the evidence for each."""

    def __init__(
        self,
        g: Graph,
        own: Own,
        memory: Memory,
        settings: QuerySettings,
        dense: Dense,
        trending: tuple[Value, Value] | None,
    ) -> None:
        self._g, self._own, self._memory, self._settings, self._dense = g, own, memory, settings, dense
        near, similar = neighbors(g, own, memory), Similar(g, own, memory, settings.sessions)
        second_items, second_terms = second_neighbors(g, own, memory)
        groups = [own.items, near.items, similar.items, second_items, dense.items]
        groups += [] if trending is None else [trending[0]]
        items = g.joined(*groups)
        firsts, slots = first_of_each(g, items, memory.n_items)
        self.items = items.at(firsts)
        self._rows = rows = self.items.size()
        parts: list[Value] = []
        begin: Value = g.constant(np.array([0]))
        for group in groups:
            end = begin + group.size()
            parts.append(slots.cut(begin, end))
            begin = end
        self.sums = summed(g, rows, parts[1], near.terms, len(LANES))  # [U, 15]
        self._near = summed(g, rows, parts[1], near.near.column(1), 1, "max")
        unset = g.full(rows, -1, INT)
        self._latest = unset.scattered(parts[1], near.latest, "max")
        self.similar = summed(g, rows, parts[2], similar.terms(parts[2], own.n), len(SIMILAR))  # [U, 5]
        self._second = summed(g, rows, parts[3], second_terms.column(1), 1)
        self.largest = self.similar.reduced("Max", 0)  # [5]
        normal = self.largest >= float(np.finfo(np.float32).tiny)
        self._shares = self.similar * g.where(normal, g.op("Reciprocal", self.largest), 0.0)
        self._root = memory.root(g, self.items).column(1)
        places = g.counted(dense.items.size(), INT)
        self._place = g.full(rows, settings.dense, INT).scattered(parts[4], places)
        self._trending = None
        if trending is not None:
            self._trending = g.full(rows, 0.0, FLOAT).scattered(parts[5], trending[1])
        self._pre = self._pre_scores()

    def _pre_scores(self) -> Value:
        """Return float32[U, 1]."""
        lane = {name: self.sums.cut(column, column + 1, 1) for column, name in enumerate(LANES)}
        return (
            lane["fwd_dec"] + lane["bwd_dec"] + lane["ses_all"] + lane["rec_all"]
            + (lane["cos_dec"] * self._root + lane["next_last"]) * 0.5 + self._shares.cut(0, 1, 1) * 0.02
        )  # fmt: skip

    def candidates(self, allowed: Value) -> Value:
        """Return int64[C]: slots of the allowed own items, of the best others by pre-score, and of the lists."""
        g, settings = self._g, self._settings
        is_allowed = allowed.at(self.items)
        is_own = g.counted(self._rows) < self._own.n
        key = g.where(is_allowed & ~is_own, self._keys(self._pre.flat(), self.items, _PRE_BITS), -(1 << 62))
        best, places = g.top(key, self._rows.least(settings.others))
        valid = (best > -(1 << 61)).to(INT)
        listed = self._place < settings.dense
        if self._trending is not None:
            listed = listed | (self._trending > 0.0)
        chosen = g.full(self._rows, 0, INT).scattered(places, valid) > 0
        return g.places(is_allowed & (is_own | listed | chosen))

    def ranked(self, slots: Value) -> tuple[Value, Value, Value]:
        """Return the candidates int64[..] that the ranker scores, the others by quick score, and their quick scores."""
        g, settings, items = self._g, self._settings, self.items.at(slots)
        assert self._trending is not None
        near = SIMILAR.index("knn_near")
        lead = (g.constant(np.int32(settings.dense)) - self._place.at(slots)).to(FLOAT) * (1 / max(settings.dense, 1))
        quick = (
            self._pre.at(slots).flat() + self._trending.at(slots) + self._second.at(slots).flat() * 12.0
            + self._shares.at(slots).cut(near, near + 1, 1).flat() * 0.1 + lead * 0.1 + 1e-4
        )  # fmt: skip
        is_own = slots < self._own.n
        best, places = g.top(g.where(is_own, -(1 << 62), self._keys(quick, items, _QUICK_BITS)), slots.size())
        others = places.at(g.places(best > -(1 << 61)))
        first, rest = others.cut(0, settings.ranked), others.cut(settings.ranked, 2**31)
        chosen = is_own.scattered(first, g.full(first.size(), 1, BOOL))
        return slots.at(g.places(chosen)), slots.at(rest), quick.at(rest)

    def _keys(self, scores: Value, items: Value, score_bits: int) -> Value:
        """Return int64[..], in the order of the scores, which are less than 2^score_bits, ties to the lower item."""
        g, bits = self._g, max(1, self._memory.n_items.bit_length())
        steps = g.constant(np.float64(2.0 ** (62 - score_bits - bits)))
        return (scores.to(DOUBLE) * steps).to(LONG) * (1 << bits) - items.to(LONG)

    def features(self, slots: Value) -> tuple[list[str], Value]:
        """Return names, and float32[C, F'] of the features that differ between candidates."""
        g, own, memory = self._g, self._own, self._memory
        items = self.items.at(slots)
        per_session = 1 / (memory.n_sessions + 1)
        root = self._root.at(slots)
        is_cosine = np.array([name.startswith("cos") for name in LANES], np.float32)
        sums = self.sums.at(slots) * (root * g.constant(is_cosine) + g.constant(1 - is_cosine))
        counts = memory.counts(g).at(items)
        since = (g.constant(np.int32(memory.n_sessions)) - counts.cut(4, 5, 1)).to(FLOAT) * per_session
        latest = (g.constant(np.int32(memory.n_sessions)) - self._latest.at(slots).column(1)).to(FLOAT) * per_session
        logged = {
            **{name: 1e-4 for name in LANES if name != "reached"}, "reached": 1.0, "second": 1e-4,
            **dict.fromkeys(SIMILAR, 1e-3), "pre": 1e-4, "clicks": 1.0, "sessions": 1.0, "newest": 1e-4,
            "latest": 1e-4, "dense_rank": 1.0,
        }  # fmt: skip
        raw = g.joined(
            sums, self._second.at(slots), self._shares.at(slots), self._pre.at(slots), counts.cut(0, 2, 1).to(FLOAT),
            since, latest, self._place.at(slots).to(FLOAT).column(1), axis=1,
        )  # fmt: skip
        logs = (raw + g.constant(np.array(list(logged.values()), np.float32))).log()
        logit = self._dense.all_logits.at(items).column(1)
        gap = logit - self._best_logit()
        place = slots.least(own.n)
        own_features = g.joined(own.features, g.constant(np.zeros((1, len(OWN_NAMES)), np.float32)), axis=0).at(place)
        names = [*logged, "reach_near", "logit", "logit_gap", *OWN_NAMES]
        return names, g.joined(logs, self._near.at(slots), logit, gap, own_features, axis=1)

    def query_features(self) -> dict[str, Value]:
        """Return float32[1] by name."""
        own = self._own
        sessions = self._memory.counts(self._g).at(own.items.cut(0, 1)).cut(1, 2, 1).to(FLOAT).flat()
        return {
            "length": (own.clicks + 1.0).log(),
            "last_sessions": (sessions + 1.0).log(),
            "distinct": (own.distinct + 1.0).log(),
            "repeat_rate": 1.0 - own.distinct / own.clicks,
            "knn_max": (self.largest.cut(0, 1) + 1.0).log(),
        }

    def _best_logit(self) -> Value:
        """Return float32[1]: 0 without a dense list."""
        g = self._g
        return g.joined(self._dense.logits, g.constant(np.zeros(1, np.float32))).cut(0, 1)


def scores(g: Graph, net: RankerNet, query: dict[str, Value], parts: list[tuple[list[str], Value]]) -> Value:
    """Return the ranker's scores float32[C] from the features of the query and of the candidates.

    Standardization is folded into the weights and features are bounded, as in the native ranker.
    """
    arrays = {name: array.astype(np.float64) for name, array in net.arrays().items()}
    first = arrays["scale"][:, None] * np.concatenate([arrays["w1"], arrays["linear"][:, None]], 1)  # [F, n1 + 1]
    bias = np.concatenate([arrays["b1"], arrays["bias"]]) - arrays["mean"] @ first
    place = {name: row for row, name in enumerate(net.features)}
    least, most = net.bounds()

    def rows(names: list[str]) -> Value:
        return g.constant(first[[place[name] for name in names]].astype(np.float32))

    def bounded(values: Value, names: list[str]) -> Value:
        low, high = (bound[None, [place[name] for name in names]] for bound in (least, most))
        return values.most(g.constant(low)).least(g.constant(high)) if np.isfinite(low).any() else values

    start = bounded(g.joined(*query.values()).column(0), list(query)) @ rows(list(query))
    start = start + g.constant(bias.astype(np.float32))
    names = [name for part_names, _ in parts for name in part_names]
    outputs = bounded(g.joined(*(values for _, values in parts), axis=1), names) @ rows(names) + start
    n1 = len(arrays["b1"])
    hidden = g.op("Relu", outputs.cut(0, n1, 1))
    second = g.op("Relu", g.op("Gemm", hidden, g.constant(net.w2), g.constant(net.b2)))
    return (second @ g.constant(net.w3[:, None]) + outputs.cut(n1, n1 + 1, 1)).flat()
