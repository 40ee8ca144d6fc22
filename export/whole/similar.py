"""The past sessions that are most similar to this one, and their evidence for their items.

Axes: n own items, Q sessions that contain one of them, H the heaviest of those (at most 200), M items in these.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.export.whole.nodes import FLOAT32, FLOAT64, INT64, Graph, Value
from mtaw_fast.export.whole.own import Own
from mtaw_fast.export.whole.tables import Memory, entries, first_of_each, segment_reduce
from mtaw_fast.memory.constants import FRESH_SHARE, SESSION_DECAY

_MIN_WEIGHT = 1e-30  # of an own item, as in the native queries
_WEIGHT_BITS = 8  # a session's weight is below 2^8: 1 / (1 - 0.85) times the logarithm of the sessions
_FARTHEST = 1 << 22  # longer than any past session


class Similar:
    """The items int32[M] of the H sessions. `terms` returns what each entry adds to the five sums `SIMILAR`."""

    def __init__(self, g: Graph, own: Own, memory: Memory, max_sessions: int) -> None:
        self._g, self._memory = g, memory
        sessions, self._weights = _heaviest(g, own, memory, max_sessions)
        self._fresh = self._weights * g.op(
            "Exp", (sessions.cast(FLOAT32) - float(memory.n_sessions - 1)) / (FRESH_SHARE * memory.n_sessions)
        )
        self._found = entries(g, *memory.sessions.begins_and_lengths(g, sessions))
        self.items = memory.read(g, "session_items").gather(self._found.index)

    def terms(self, slots: Value, n_own: Value) -> Value:
        """Return the terms float32[M, 5]. slots: int64[M], the entries' slots in the pool, own items first.

        A session's anchor is its last click on the latest own item in it.
        """
        g, clicks = self._g, self._found
        anchor_key = g.where(slots < n_own, slots * _FARTHEST - clicks.offset, 1 << 40)
        best = g.full(self._weights.length(), 1 << 40, INT64).scatter(clicks.row, anchor_key, "min")
        anchor = g.op("Mod", g.constant(np.array(0)) - best, g.constant(np.array(_FARTHEST)))
        distance = clicks.offset - anchor.gather(clicks.row)
        absolute = g.op("Abs", distance).cast(FLOAT32)
        near = g.where(distance.equal(0), 0.0, g.op("Reciprocal", absolute.maximum(1.0)))
        after, following = (distance > 0).cast(FLOAT32), distance.equal(1).cast(FLOAT32)
        weight = self._weights.gather(clicks.row)
        terms = (weight, self._fresh.gather(clicks.row), weight * near, weight * after, weight * following)
        return g.concat(*(term.unsqueeze(1) for term in terms), axis=1)


def _heaviest(g: Graph, own: Own, memory: Memory, max_sessions: int) -> tuple[Value, Value]:
    """Return the heaviest sessions int32[H] and their weights float32[H]; of equal weights the later sessions."""
    sessions_with = memory.read(g, "item_counts").gather(own.items).slice(1, 2, 1).cast(FLOAT32).flatten()
    rarity = (g.constant(np.float32(memory.n_sessions + 1)) / (sessions_with + 1.0)).log()
    decay = g.constant((np.float64(SESSION_DECAY) ** np.arange(512)).astype(np.float32)).gather(own.back)
    weights = decay * rarity
    begins, lengths = memory.posts.begins_and_lengths(g, own.items)
    posts = entries(g, begins, g.where(weights >= _MIN_WEIGHT, lengths, 0))
    sessions = memory.read(g, "postings").gather(posts.index)
    firsts, slots = first_of_each(g, sessions, memory.n_sessions)
    distinct = sessions.gather(firsts)
    total = segment_reduce(g, distinct.length(), slots, weights.gather(posts.row).unsqueeze(1), 1).flatten()
    bits = max(1, int(memory.n_sessions).bit_length())
    steps = g.constant(np.float64(2.0 ** (62 - _WEIGHT_BITS - bits)))
    key = (total.cast(FLOAT64) * steps).cast(INT64) * (1 << bits) + distinct.cast(INT64)
    _, chosen = g.topk(key, key.length().minimum(max_sessions))
    return distinct.gather(chosen), total.gather(chosen)
