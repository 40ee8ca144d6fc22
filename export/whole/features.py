"""The pool of all items that were found, its candidates, and their features and scores.

Axes: A entries, U items in the pool (own ones first), C candidates, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtaw_fast.export.whole.nodes import BOOL, FLOAT32, FLOAT64, INT32, INT64, Graph, Value
from mtaw_fast.export.whole.own import OWN_NAMES, Own
from mtaw_fast.export.whole.pairs import LANES, neighbors, second_neighbors
from mtaw_fast.export.whole.tables import Memory, first_of_each, segment_reduce
from mtaw_fast.kernels.native.memory_query import QuerySettings
from mtaw_fast.memory import RankerNet

_PRE_BITS, _QUICK_BITS = 3, 6  # a pre-score is less than 2^3, a quick score than 2^6: trending < 10, 12 second < 12.1


@dataclass(frozen=True, slots=True)
class Dense:
    """The encoder's best allowed items, best first: items int32[D], logits float32[D]; all_logits float32[N]."""

    items: Value
    logits: Value
    all_logits: Value


class Pool:
    """The items that the session leads to in any way, with the evidence for each."""

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
        near = neighbors(g, own, memory)
        second_items, second_terms = second_neighbors(g, own, memory)
        groups = [own.items, near.items, second_items, dense.items]
        groups += [] if trending is None else [trending[0]]
        items = g.concat(*groups)
        firsts, slots = first_of_each(g, items, memory.n_items)
        self.items = items.gather(firsts)
        self._rows = rows = self.items.length()
        parts: list[Value] = []
        begin: Value = g.constant(np.array([0]))
        for group in groups:
            end = begin + group.length()
            parts.append(slots.slice(begin, end))
            begin = end
        self.sums = segment_reduce(g, rows, parts[1], near.terms, len(LANES))  # [U, 15]
        self._near = segment_reduce(g, rows, parts[1], near.near.unsqueeze(1), 1, "max")
        unset = g.full(rows, -1, INT32)
        self._latest = unset.scatter(parts[1], near.latest, "max")
        self._second = segment_reduce(g, rows, parts[2], second_terms.unsqueeze(1), 1)
        self._root = memory.read(g, "item_roots").gather(self.items).unsqueeze(1)
        positions = g.arange(dense.items.length(), INT32)
        self._dense_position = g.full(rows, settings.dense, INT32).scatter(parts[3], positions)
        self._trending = None
        if trending is not None:
            self._trending = g.full(rows, 0.0, FLOAT32).scatter(parts[4], trending[1])
        self._pre = self._pre_scores()

    def _pre_scores(self) -> Value:
        """Return the pre-scores float32[U, 1]."""
        lane = {name: self.sums.slice(column, column + 1, 1) for column, name in enumerate(LANES)}
        return (
            lane["fwd_dec"] + lane["bwd_dec"] + lane["ses_all"] + lane["rec_all"]
            + (lane["cos_dec"] * self._root + lane["next_last"]) * 0.5
        )  # fmt: skip

    def candidates(self, allowed: Value) -> Value:
        """Return the slots int64[C] of the candidates.

        They are the allowed own items, the best others by pre-score, and the dense and trending items.
        """
        g, settings = self._g, self._settings
        is_allowed = allowed.gather(self.items)
        is_own = g.arange(self._rows) < self._own.n
        key = g.where(is_allowed & ~is_own, self._keys(self._pre.flatten(), self.items, _PRE_BITS), -(1 << 62))
        best, slots = g.topk(key, self._rows.minimum(settings.others))
        valid = (best > -(1 << 61)).cast(INT32)
        listed = self._dense_position < settings.dense
        if self._trending is not None:
            listed = listed | (self._trending > 0.0)
        chosen = g.full(self._rows, 0, INT32).scatter(slots, valid) > 0
        return g.nonzero(is_allowed & (is_own | listed | chosen))

    def ranked(self, slots: Value) -> tuple[Value, Value, Value]:
        """Split the candidates: slots int64[..] that the ranker scores, the others, and the quick scores of these.

        The others are in the order of their quick scores.
        """
        g, settings, items = self._g, self._settings, self.items.gather(slots)
        assert self._trending is not None
        lead = (g.constant(np.int32(settings.dense)) - self._dense_position.gather(slots)).cast(FLOAT32) * (
            1 / max(settings.dense, 1)
        )
        quick = (
            self._pre.gather(slots).flatten() + self._trending.gather(slots)
            + self._second.gather(slots).flatten() * 12.0 + lead * 0.1 + 1e-4
        )  # fmt: skip
        is_own = slots < self._own.n
        best, order = g.topk(g.where(is_own, -(1 << 62), self._keys(quick, items, _QUICK_BITS)), slots.length())
        others = order.gather(g.nonzero(best > -(1 << 61)))
        first, rest = others.slice(0, settings.ranked), others.slice(settings.ranked, 2**31)
        chosen = is_own.scatter(first, g.full(first.length(), 1, BOOL))
        return slots.gather(g.nonzero(chosen)), slots.gather(rest), quick.gather(rest)

    def _keys(self, scores: Value, items: Value, score_bits: int) -> Value:
        """Return sort keys int64[..]: by score, below 2^score_bits; a tie goes to the lower item."""
        g, bits = self._g, max(1, self._memory.n_items.bit_length())
        steps = g.constant(np.float64(2.0 ** (62 - score_bits - bits)))
        return (scores.cast(FLOAT64) * steps).cast(INT64) * (1 << bits) - items.cast(INT64)

    def features(self, slots: Value) -> tuple[list[str], Value]:
        """Return the names of the features that differ between candidates, and their values float32[C, F']."""
        g, own, memory = self._g, self._own, self._memory
        items = self.items.gather(slots)
        per_session = 1 / (memory.n_sessions + 1)
        root = self._root.gather(slots)
        is_cosine = np.array([name.startswith("cos") for name in LANES], np.float32)
        sums = self.sums.gather(slots) * (root * g.constant(is_cosine) + g.constant(1 - is_cosine))
        counts = memory.read(g, "item_counts").gather(items)
        since = (g.constant(np.int32(memory.n_sessions)) - counts.slice(4, 5, 1)).cast(FLOAT32) * per_session
        latest = (g.constant(np.int32(memory.n_sessions)) - self._latest.gather(slots).unsqueeze(1)).cast(
            FLOAT32
        ) * per_session
        logged = {
            **{name: 1e-4 for name in LANES if name != "reached"}, "reached": 1.0, "second": 1e-4,
            "pre": 1e-4, "clicks": 1.0, "sessions": 1.0, "newest": 1e-4, "latest": 1e-4, "dense_rank": 1.0,
        }  # fmt: skip
        raw = g.concat(
            sums, self._second.gather(slots), self._pre.gather(slots),
            counts.slice(0, 2, 1).cast(FLOAT32), since, latest,
            self._dense_position.gather(slots).cast(FLOAT32).unsqueeze(1), axis=1,
        )  # fmt: skip
        logs = (raw + g.constant(np.array(list(logged.values()), np.float32))).log()
        logit = self._dense.all_logits.gather(items).unsqueeze(1)
        gap = logit - self._best_logit()
        own_row = slots.minimum(own.n)
        own_features = g.concat(own.features, g.constant(np.zeros((1, len(OWN_NAMES)), np.float32)), axis=0).gather(
            own_row
        )
        names = [*logged, "reach_near", "logit", "logit_gap", *OWN_NAMES]
        return names, g.concat(logs, self._near.gather(slots), logit, gap, own_features, axis=1)

    def query_features(self) -> dict[str, Value]:
        """Return the features of the query by name, float32[1] each."""
        own = self._own
        counts = self._memory.read(self._g, "item_counts").gather(own.items.slice(0, 1))
        sessions = counts.slice(1, 2, 1).cast(FLOAT32).flatten()
        return {
            "length": (own.clicks + 1.0).log(),
            "last_sessions": (sessions + 1.0).log(),
            "distinct": (own.distinct + 1.0).log(),
            "repeat_rate": 1.0 - own.distinct / own.clicks,
        }

    def _best_logit(self) -> Value:
        """Return the first logit of the dense list float32[1]; 0 if the list is empty."""
        g = self._g
        return g.concat(self._dense.logits, g.constant(np.zeros(1, np.float32))).slice(0, 1)


def scores(g: Graph, net: RankerNet, query: dict[str, Value], parts: list[tuple[list[str], Value]]) -> Value:
    """Return the ranker's scores float32[C] from the features of the query and of the candidates.

    Standardization is folded into the weights and features are bounded, as in the native ranker.
    """
    arrays = {name: array.astype(np.float64) for name, array in net.arrays().items()}
    first = arrays["scale"][:, None] * np.concatenate([arrays["w1"], arrays["linear"][:, None]], 1)  # [F, n1 + 1]
    bias = np.concatenate([arrays["b1"], arrays["bias"]]) - arrays["mean"] @ first
    row_of = {name: row for row, name in enumerate(net.features)}
    missing = set(net.features) - set(query) - {name for names, _ in parts for name in names}
    if missing:
        raise ValueError(f"export/whole has no formula for the ranker's features {', '.join(sorted(missing))}: add it")
    lowest, highest = net.bounds()

    def rows(names: list[str]) -> Value:
        return g.constant(first[[row_of[name] for name in names]].astype(np.float32))

    def bounded(values: Value, names: list[str]) -> Value:
        low, high = (bound[None, [row_of[name] for name in names]] for bound in (lowest, highest))
        return values.maximum(g.constant(low)).minimum(g.constant(high)) if np.isfinite(low).any() else values

    start = bounded(g.concat(*query.values()).unsqueeze(0), list(query)) @ rows(list(query))
    start = start + g.constant(bias.astype(np.float32))
    names = [name for part_names, _ in parts for name in part_names]
    outputs = bounded(g.concat(*(values for _, values in parts), axis=1), names) @ rows(names) + start
    n1 = len(arrays["b1"])
    hidden = g.op("Relu", outputs.slice(0, n1, 1))
    second = g.op("Relu", g.op("Gemm", hidden, g.constant(net.w2), g.constant(net.b2)))
    return (second @ g.constant(net.w3[:, None]) + outputs.slice(n1, n1 + 1, 1)).flatten()
