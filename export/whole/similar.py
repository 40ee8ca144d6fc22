"""The past sessions that are most similar to this one, and their evidence for their items.

Axes: n own items, Q sessions that contain one of them, H the heaviest of those (at most 200), M items in these.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.export.whole.nodes import DOUBLE, FLOAT, LONG, Graph, Value
from mtaw_fast.export.whole.own import Own
from mtaw_fast.export.whole.ragged import entries, first_of_each, summed
from mtaw_fast.export.whole.tables import Memory
from mtaw_fast.memory.constants import FRESH_SHARE, SESSION_DECAY

_LEAST_WEIGHT = 1e-30  # of an own item, as in the native queries
_WEIGHT_BITS = 8  # a session's weight is below 2^8: 1 / (1 - 0.85) times the logarithm of the sessions
_FARTHEST = 1 << 22  # longer than any past session


class Similar:
    """items int32[M] of the H sessions; `terms` returns what each entry adds to the five sums `SIMILAR`."""

    def __init__(self, g: Graph, own: Own, memory: Memory, most: int) -> None:
        self._g, self._memory = g, memory
        sessions, self._weights = _heaviest(g, own, memory, most)
        self._fresh = self._weights * g.op(
            "Exp", (sessions.to(FLOAT) - float(memory.n_sessions - 1)) / (FRESH_SHARE * memory.n_sessions)
        )
        self._found = entries(g, *memory.sessions.begins_and_lengths(g, sessions))
        self.items = memory.session_items(g).at(self._found.at)

    def terms(self, slots: Value, n_own: Value) -> Value:
        """Return float32[M, 5]. slots int64[M]: the entries' places in the pool, own items first.

        A session's anchor is its last click on the latest own item in it.
        """
        g, clicks = self._g, self._found
        key = g.where(slots < n_own, slots * _FARTHEST - clicks.place, 1 << 40)
        best = g.full(self._weights.size(), 1 << 40, LONG).scattered(clicks.row, key, "min")
        anchor = g.op("Mod", g.constant(np.array(0)) - best, g.constant(np.array(_FARTHEST)))
        distance = clicks.place - anchor.at(clicks.row)
        away = g.op("Abs", distance).to(FLOAT)
        near = g.where(distance.same(0), 0.0, g.op("Reciprocal", away.most(1.0)))
        after, following = (distance > 0).to(FLOAT), distance.same(1).to(FLOAT)
        weight = self._weights.at(clicks.row)
        terms = (weight, self._fresh.at(clicks.row), weight * near, weight * after, weight * following)
        return g.joined(*(term.column(1) for term in terms), axis=1)


def _heaviest(g: Graph, own: Own, memory: Memory, most: int) -> tuple[Value, Value]:
    """Return (sessions int32[H], their weights float32[H]); of equal weights the later ones."""
    sessions_with = memory.counts(g).at(own.items).cut(1, 2, 1).to(FLOAT).flat()
    rarity = (g.constant(np.float32(memory.n_sessions + 1)) / (sessions_with + 1.0)).log()
    decay = g.constant((np.float64(SESSION_DECAY) ** np.arange(512)).astype(np.float32)).at(own.back)
    weights = decay * rarity
    begins, lengths = memory.posts.begins_and_lengths(g, own.items)
    posts = entries(g, begins, g.where(weights >= _LEAST_WEIGHT, lengths, 0))
    sessions = memory.postings(g).at(posts.at)
    firsts, slots = first_of_each(g, sessions, memory.n_sessions)
    met = sessions.at(firsts)
    total = summed(g, met.size(), slots, weights.at(posts.row).column(1), 1).flat()
    bits = max(1, int(memory.n_sessions).bit_length())
    steps = g.constant(np.float64(2.0 ** (62 - _WEIGHT_BITS - bits)))
    key = (total.to(DOUBLE) * steps).to(LONG) * (1 << bits) + met.to(LONG)
    _, chosen = g.top(key, key.size().least(most))
    return met.at(chosen), total.at(chosen)
