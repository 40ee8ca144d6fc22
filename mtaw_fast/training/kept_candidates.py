"""Candidates that are made once and kept: making them takes as long as a step of the ranker's fit.

Axes: Q queries (prefixes), C candidates of a query at most, R candidates of all queries, F features.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.training.memory_ranker import Candidates

MOST_BYTES = 3 << 30  # all of a quarter of the public sets' sessions; of larger logs the rest is made anew every epoch


class KeptCandidates:
    """`Candidates` of `source`, the same bits, for one caller at a time.

    n_queries: Q. most_bytes: of memory for what is kept; none of it is touched before it is needed.
    """

    def __init__(self, source: Candidates, n_queries: int, most_bytes: int = MOST_BYTES) -> None:
        self.features = source.features
        self._source = source
        room = most_bytes // (4 * (1 + len(self.features)))
        self._ids = np.empty(room, dtype=np.int32)  # [R]
        self._values = np.empty((room, len(self.features)), dtype=np.float32)  # [R, F]
        self._used = self._width = 0
        self._begins = np.full(n_queries, -1, dtype=np.int64)
        self._counts = np.zeros(n_queries, dtype=np.int64)

    def batch(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `memory_ranker.Candidates`."""
        kept = self._begins[queries] >= 0
        old, new = np.flatnonzero(kept), np.flatnonzero(~kept)
        if len(old) == 0:
            return self._made(queries)
        ids = np.full((len(queries), self._width), -1, dtype=np.int32)
        values = np.zeros((len(queries), self._width, len(self.features)), dtype=np.float32)
        query, place = np.nonzero(np.arange(self._width) < self._counts[queries[old], None])
        rows = self._begins[queries[old]][query] + place
        ids[old[query], place], values[old[query], place] = self._ids[rows], self._values[rows]
        if len(new):
            ids[new], values[new] = self._made(queries[new])
        return ids, values

    def _made(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Candidates from the source, of which those of the first queries are kept, as many as there is room for."""
        ids, values = self._source.batch(queries)
        self._width = ids.shape[1]
        taken = ids >= 0
        counts = taken.sum(axis=1)
        ends = self._used + np.cumsum(counts)
        fitting = int(np.searchsorted(ends, len(self._ids), side="right"))
        if fitting:
            end = int(ends[fitting - 1])
            self._ids[self._used : end] = ids[:fitting][taken[:fitting]]
            self._values[self._used : end] = values[:fitting][taken[:fitting]]
            self._counts[queries[:fitting]] = counts[:fitting]
            self._begins[queries[:fitting]] = ends[:fitting] - counts[:fitting]
            self._used = end
        return ids, values
