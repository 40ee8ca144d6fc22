"""Candidates of session prefixes, from memory tables that do not change (`prequential=false`).

Axes: Q prefixes, D dense items of each, C candidates, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions, offsets_of, ranges
from mtaw_fast.kernels.native.memory_query import Dense, Moment
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.kernels.native.trends import ItemContent, Trends
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.retrieval import NativeIndex
from mtaw_fast.training.ranker.side_inputs import NOTHING, SideInputs
from mtaw_fast.training.steps.batch import typed
from mtaw_fast.training.threads import current_threads

_CHUNK = 1024  # prefixes encoded and searched at once


def moment_of(trends: Trends, sessions: Sessions, ends: np.ndarray, content: ItemContent | None = None) -> Moment:
    """Return the times and contexts of Q requests, each after the prefix that ends before click `ends[q]` int64[Q].

    If the sessions have times, a request comes right after its last click, else after the newest click that `trends`
    knows. content: for a ranker with features of it.
    """
    codes = None
    if trends.n_context and sessions.context is not None:
        codes = np.ascontiguousarray(sessions.context[ends - 1])
    if sessions.times is None:
        return Moment(trends, np.zeros(len(ends), dtype=np.int64), None, codes, content)
    times = np.ascontiguousarray(sessions.times)
    return Moment(trends, times[ends - 1], times, codes, content)


@dataclass(frozen=True, slots=True, eq=False)
class Prefixes:
    """Q samples of packed sessions, without a copy: prefix q is items[begins[q]:ends[q]], its target targets[q].

    items: int32[T]; begins, ends: int64[Q]; targets: int32[Q]. weights: float32[Q] of the samples, or None. types:
    uint8[T] of the clicks, as a ranker reads them, or None.
    """

    items: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None
    types: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        sessions: Sessions,
        min_prefix: int,
        type_weights: np.ndarray | None = None,
        types: np.ndarray | None = None,
    ) -> Prefixes:
        """Return every prefix of at least `min_prefix` clicks that has a next click, session by session. With
        `type_weights` those whose next click weighs more than 0."""
        counts = np.maximum(sessions.lengths - min_prefix, 0)
        begins = np.repeat(sessions.offsets[:-1], counts)
        ends = ranges(sessions.offsets[:-1] + min_prefix, counts)
        items, weights = np.ascontiguousarray(sessions.items), None
        if type_weights is not None:
            weights = type_weights[typed(sessions)[ends]]
            begins, ends, weights = begins[weights > 0], ends[weights > 0], weights[weights > 0]
        return cls(items, begins, ends, items[ends], weights, types)

    @property
    def lengths(self) -> np.ndarray:
        """int64[Q]: clicks of each."""
        return self.ends - self.begins

    def packed(self, begin: int, end: int) -> Sessions:
        """Return a copy of prefixes begin..end-1 as sessions."""
        lengths = self.lengths[begin:end]
        return Sessions(self.items[ranges(self.begins[begin:end], lengths)], offsets_of(lengths))


class PrefixCandidates:
    """The `fit_ranker.Candidates` of prefixes, computed again at every request: stored, they would take gigabytes.

    The part of the encoder and the index is computed once: D ids and logits a prefix, and its query vector.
    """

    def __init__(
        self,
        config: Config,
        tables: MemoryTables,
        weights: Mapping[str, np.ndarray] | None,
        prefixes: Prefixes,
        side: SideInputs = NOTHING,
    ) -> None:
        self.features = side.names(trends=False)
        self._n_types = len(side.types)
        self.left_out = 0
        self.targets, self.lengths, self.weights = prefixes.targets, prefixes.lengths, prefixes.weights
        self._prefixes = prefixes
        self._threads = max(1, current_threads().pieces - 1)  # the fit takes one
        self._memory = tables.queries(tables.n_items, query_settings(config))
        self._dense = None if weights is None else dense_of(config, weights, prefixes, current_threads().pieces)

    def batch(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `ranker.fit_ranker.Candidates`."""
        dense = self._dense
        if dense is not None:
            dense = Dense(dense.queries[queries], dense.ids[queries], dense.logits[queries], dense.catalog, dense.scale)
        prefixes = self._prefixes
        return self._memory.features(
            prefixes.items,
            prefixes.begins[queries],
            prefixes.ends[queries],
            dense,
            threads=self._threads,
            types=prefixes.types,
            n_types=self._n_types,
        )


def dense_of(config: Config, weights: Mapping[str, np.ndarray], prefixes: Prefixes, threads: int) -> Dense:
    """Encode the prefixes and search the exact index, with the code that serves."""
    catalog = normalized(weights["item_embedding"])
    encoder, index = NativeEncoder(config, weights), NativeIndex(catalog, quantize(catalog))
    width, scale = min(config.memory.dense_candidates, len(catalog)), config.model.scale

    def searched(rows: np.ndarray) -> Searched:
        vectors = encoder.encode(prefixes.packed(rows[0], rows[-1] + 1))
        return vectors, *index.search(vectors, width, scale=scale)

    return Dense(*in_chunks(searched, len(prefixes.targets), catalog.shape[1], width, threads), catalog, scale)


Searched = tuple[np.ndarray, np.ndarray, np.ndarray]  # vectors float32[q, d], ids int32[q, D], logits float32[q, D]


def in_chunks(search: Callable[[np.ndarray], Searched], count: int, d: int, width: int, threads: int) -> Searched:
    """Call `search` with the numbers int64[q] of `count` queries, in chunks, and put the results together."""
    vectors = np.empty((count, d), dtype=np.float32)
    ids, logits = np.empty((count, width), dtype=np.int32), np.empty((count, width), dtype=np.float32)

    def fill(begin: int) -> None:
        chunk = np.arange(begin, min(begin + _CHUNK, count))
        vectors[chunk], ids[chunk], logits[chunk] = search(chunk)

    with ThreadPoolExecutor(max_workers=threads) as pool:
        list(pool.map(fill, range(0, count, _CHUNK)))
    return vectors, ids, logits
