"""Dense candidates during a prequential run: new items get vectors as they do in serving.

Axes: Q queries, N items, d dimensions, D dense items of a query, G new items with clicks so far.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.data.filters import Filter
from mtaw_fast.data.sessions import Sessions, offsets_of, ranges
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_query import Dense
from mtaw_fast.kernels.native.memory_tables import PAIR_KINDS
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.model.item_vectors import mean_norm, normalized
from mtaw_fast.online.state.new_items import evidence_vector
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.retrieval import NativeIndex
from mtaw_fast.training.ranker.candidates import Searched, in_chunks

_FWD, _BWD = PAIR_KINDS.index("fwd"), PAIR_KINDS.index("bwd")


class NewItemVectors:
    """The dense part of queries over a catalog whose new items are learned on the way.

    An item that is not `known` enters with its first click. Its vector follows from the items that it is clicked with
    (`online.state.evidence_vector`) and is computed at its first, second, fourth, .. click.

    config: the encoder's. weights: of an MTAW that was trained on the sessions before. known: bool[N], items with a
    click there. items: int32[T], clicks of all queries. begins, ends: int64[Q], the queries: query q is
    items[begins[q]:ends[q]]. threads: for the part that does not depend on new items.
    """

    def __init__(
        self,
        config: Config,
        weights: Mapping[str, np.ndarray],
        known: np.ndarray,
        items: np.ndarray,
        begins: np.ndarray,
        ends: np.ndarray,
        threads: int,
    ) -> None:
        self._embedding = np.where(known[:, None], weights["item_embedding"], np.float32(0))
        self.catalog = normalized(self._embedding)
        self._norm = np.float32(mean_norm(self._embedding))
        # Encoder and index read these arrays in place, so later changes to them apply.
        self._encoder = NativeEncoder(config, {**weights, "item_embedding": self._embedding})
        self._index = NativeIndex(self.catalog, quantize(self.catalog))
        self._known, self._filter = known, None if known.all() else Filter(known)
        self._scale, self._width = config.model.scale, min(config.memory.dense_candidates, len(known))
        self._items, self._begins, self._ends = items, begins, ends
        self._clicks = np.zeros(len(known), dtype=np.int64)
        self._next = np.ones(len(known), dtype=np.int64)
        self._entered = np.zeros(len(known), dtype=bool)
        self._entered_items = np.empty(0, dtype=np.int32)
        # Of every query, while no new item has a vector yet.
        self._queries, self._ids, self._logits = in_chunks(
            self._searched, len(ends), self.catalog.shape[1], self._width, threads
        )

    def of(self, queries: np.ndarray) -> Dense:
        """Return the dense part of the queries int64[q] at this time."""
        vectors, ids, logits = self._queries[queries], self._ids[queries], self._logits[queries]
        entered = self._entered_items
        if len(entered):
            touched = np.flatnonzero(self._touched(queries))
            if len(touched):
                searched = self._searched(queries[touched])
                vectors[touched], ids[touched], logits[touched] = searched
            ids, logits = _merged(ids, logits, entered, np.float32(self._scale) * (vectors @ self.catalog[entered].T))
        return Dense(vectors, ids, logits, self.catalog, self._scale)

    def learn(self, items: np.ndarray, delta: MemoryDelta) -> None:
        """Count clicks int32[n], which `delta` has already learned, and update the vectors at their next count."""
        items = items[~self._known[items]]
        if len(items) == 0:
            return
        np.add.at(self._clicks, items, 1)
        clicked = np.unique(items)
        updated = clicked[self._clicks[clicked] >= self._next[clicked]]
        for item in updated.tolist():
            neighbors, values = delta.row(item)
            vector = evidence_vector(values[:, _FWD] + values[:, _BWD], self.catalog[neighbors])
            self.catalog[item], self._embedding[item] = vector, vector * self._norm
        self._next[updated] = 2 * self._clicks[updated]
        self._entered[clicked] = True
        self._entered_items = np.flatnonzero(self._entered).astype(np.int32)

    def _touched(self, queries: np.ndarray) -> np.ndarray:
        """bool[q]: whether a query has a click on an entered item."""
        lengths = self._ends[queries] - self._begins[queries]
        flags = self._entered[self._items[ranges(self._begins[queries], lengths)]]
        return np.logical_or.reduceat(flags, offsets_of(lengths)[:-1])

    def _searched(self, queries: np.ndarray) -> Searched:
        """Encode the queries int64[q] and search the known items."""
        lengths = self._ends[queries] - self._begins[queries]
        packed = Sessions(self._items[ranges(self._begins[queries], lengths)], offsets_of(lengths))
        vectors = self._encoder.encode(packed)
        return vectors, *self._index.search(vectors, self._width, self._filter, scale=self._scale)


def _merged(
    ids: np.ndarray, logits: np.ndarray, entered: np.ndarray, new_logits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the D best of the lists int32[q, D] and the items int32[G] with logits float32[q, G]."""
    width = ids.shape[1]
    if len(entered) > width:
        best = np.argpartition(-new_logits, width - 1, axis=1)[:, :width]
        entered, new_logits = entered[best], np.take_along_axis(new_logits, best, axis=1)
    else:
        entered = np.broadcast_to(entered, (len(ids), len(entered)))
    ids, logits = np.concatenate([ids, entered], axis=1), np.concatenate([logits, new_logits], axis=1)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :width]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(logits, order, axis=1)
