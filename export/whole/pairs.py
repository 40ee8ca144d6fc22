"""The statistics of pairs: items that are in past sessions together with the session's own.

Axes: n own items, M entries of their rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtaw_fast.export.whole.nodes import FLOAT32, Graph, Value
from mtaw_fast.export.whole.own import Own
from mtaw_fast.export.whole.tables import Memory, Rows, entries
from mtaw_fast.memory.constants import STRONG, SUMS

# A lane sums a pair statistic over rows with weights of the own items; `cos` is ses with the items' roots.
LANES = tuple(name for name in SUMS if name != "second")
_KINDS = ("next", "fwd", "bwd", "ses", "aa", "rec")


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Entries of rows. items int32[M]; terms float32[M, 15]: added to LANES; near float32[M]; latest int32[M]."""

    items: Value
    terms: Value
    near: Value
    latest: Value


def neighbors(g: Graph, own: Own, memory: Memory) -> Neighbors:
    """Return the rows of all own items."""
    rows = memory.rows
    pairs = entries(g, *rows.begins_and_lengths(g, own.items))
    values = memory.read(g, "pair_values").gather(pairs.index).cast(FLOAT32)
    raw = g.op("Gemm", values, g.constant(_spread()), g.constant(_always()))
    near = g.op("Reciprocal", own.back.cast(FLOAT32) + 1.0)
    terms = raw * _factors(g, own, memory).gather(pairs.row)
    items = memory.read(g, "pair_neighbors").gather(pairs.index)
    return Neighbors(items, terms, near.gather(pairs.row), memory.read(g, "pair_latest").gather(pairs.index))


def second_neighbors(g: Graph, own: Own, memory: Memory) -> tuple[Value, Value]:
    """Return the neighbors of the last item's strongest neighbors: (items int32[M], fwd times fwd float32[M])."""
    last = own.items.slice(0, 1)
    middles, shares = _fwd_shares(g, memory.rows, last, memory)
    positive = g.nonzero(shares > 0.0)
    middles, shares = middles.gather(positive), shares.gather(positive)
    begins, lengths = memory.rows.begins_and_lengths(g, middles, STRONG)
    pairs = entries(g, begins, lengths)
    through = shares / (_fwd_total(g, memory, middles) + 1.0)
    values = memory.read(g, "pair_values").gather(pairs.index).slice(1, 2, 1).cast(FLOAT32).flatten()
    return memory.read(g, "pair_neighbors").gather(pairs.index), values * through.gather(pairs.row)


def _fwd_shares(g: Graph, rows: Rows, item: Value, memory: Memory) -> tuple[Value, Value]:
    begins, lengths = rows.begins_and_lengths(g, item, STRONG)
    pair_rows = g.arange(lengths) + begins
    values = memory.read(g, "pair_values").gather(pair_rows).slice(1, 2, 1).cast(FLOAT32).flatten()
    return memory.read(g, "pair_neighbors").gather(pair_rows), values / (_fwd_total(g, memory, item) + 1.0)


def _fwd_total(g: Graph, memory: Memory, items: Value) -> Value:
    return memory.read(g, "pair_totals").gather(items).slice(1, 2, 1).flatten()


def _factors(g: Graph, own: Own, memory: Memory) -> Value:
    """Return float32[n, 15]: the factor of an own item's row in each lane."""
    newest = memory.read(g, "item_counts").gather(own.items).slice(4, 5, 1).cast(FLOAT32)
    fresh = g.op("Exp", (newest - float(memory.n_sessions - 1)) / float(memory.recency))  # [n, 1]
    totals = memory.read(g, "pair_totals").gather(own.items)
    aged = g.concat(g.op("Expand", g.constant(np.ones((1, 5), np.float32)), _shape(g, own.n, 5)), fresh, axis=1)
    shares = aged / (totals * aged + 1.0)  # [n, 6]
    root = memory.read(g, "item_roots").gather(own.items).unsqueeze(1)
    ones = g.op("Expand", g.constant(np.ones((1, 1), np.float32)), _shape(g, own.n, 1))
    kinds = g.concat(shares, root, ones, axis=1)
    position = g.arange(own.n)
    even = g.op("Reciprocal", own.distinct)
    weights = {
        "dec": own.decayed,
        "all": own.decayed * 0.0 + even,
        "last": position.equal(0).cast(FLOAT32),
        "prev": position.equal(1).cast(FLOAT32),
        "": own.decayed * 0.0 + 1.0,
    }
    columns = g.concat(*(value.unsqueeze(1) for value in weights.values()), axis=1)
    split = [name.partition("_") for name in LANES]
    kind = [_COLUMNS.index(part[0]) for part in split]
    weight = [list(weights).index(part[2]) for part in split]
    return kinds.gather(g.constant(np.array(kind)), 1) * columns.gather(g.constant(np.array(weight)), 1)


_COLUMNS = (*_KINDS, "cos", "reached")


def _spread() -> np.ndarray:
    """Return float32[6, 15]: the statistic of each lane."""
    spread = np.zeros((len(_KINDS), len(LANES)), np.float32)
    for lane, name in enumerate(LANES):
        kind = name.partition("_")[0]
        if kind != "reached":
            spread[_KINDS.index("ses" if kind == "cos" else kind), lane] = 1
    return spread


def _always() -> np.ndarray:
    """Return float32[15]: 1 for the lane that counts rows."""
    return np.array([name == "reached" for name in LANES], np.float32)


def _shape(g: Graph, n: Value, width: int) -> Value:
    return g.concat(n, g.constant(np.array([width])))
