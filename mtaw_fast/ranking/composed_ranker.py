"""The ranker of any encoder and any index: encode, retrieve, drop excluded items, rank by the session memory."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.data.ranked_lists import padded_lists
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.ranking.answer import unpadded
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.encoders import Encoder
from mtaw_fast.ranking.memory_stage import MemoryStage
from mtaw_fast.ranking.native_ranker import EncodedClicks, Ranked, StageTimes
from mtaw_fast.ranking.options import Conditions, Options
from mtaw_fast.ranking.retrieval import Index

_NOTHING = np.empty(0, dtype=np.int32)


class ComposedRanker:
    """Ranks as `NativeRanker` does, with any encoder and index. It encodes a growing session from its first click."""

    def __init__(self, catalog: Catalog, encoder: Encoder, index: Index) -> None:
        self._catalog, self._encoder, self._index = catalog, encoder, index
        self._memory = MemoryStage.of(catalog)

    def recommend(self, session: Sequence[Any], options: Options) -> Ranked:
        """See `NativeRanker.recommend`."""
        start = perf_counter_ns()
        clicks, unknown, options = options.of_known(self._catalog, session)
        if not len(clicks):
            return None, None, unknown, None, None
        return self._rank_clicks(clicks, unknown, options, (perf_counter_ns() - start) / 1000)

    def recommend_growing(
        self, clicks: np.ndarray, _: EncodedClicks | None, options: Options
    ) -> tuple[Ranked, EncodedClicks | None]:
        """See `NativeRanker.recommend_growing`."""
        return self._rank_clicks(clicks, None, options, 0.0), None

    def rank(self, sessions: Sessions, k: int, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
        """See `NativeRanker.rank`."""
        return self.rank_timed(sessions, k, conditions)[0]

    def _rank_clicks(self, clicks: np.ndarray, unknown: list[Any] | None, options: Options, lookup: float) -> Ranked:
        """Rank after the known clicks int32[m], whose look-up took `lookup` microseconds."""
        session = Sessions(clicks, np.array([0, len(clicks)], dtype=np.int64), None, options.types)
        (ids, scores), times = self.rank_timed(session, options.k, options.conditions)
        items, values = unpadded(ids[0], scores[0])
        repeats = np.isin(items, clicks) if options.repeats else None
        return self._catalog.ids.external(items), values.copy(), unknown, repeats, (lookup, *times)

    def rank_timed(
        self, sessions: Sessions, k: int, conditions: Conditions
    ) -> tuple[tuple[np.ndarray, np.ndarray], StageTimes]:
        """See `NativeRanker.rank_timed`."""
        start = perf_counter_ns()
        queries = self._encoder.encode(sessions)
        encoding_end = perf_counter_ns()
        excluded = _NOTHING if conditions.excluded is None else conditions.excluded
        dropped = None
        if conditions.exclude_seen:
            dropped = [np.union1d(excluded, clicks) for clicks in sessions]
        elif len(excluded):
            dropped = [excluded] * len(sessions)
        catalog, memory = self._catalog, self._memory
        width = k if memory is None else memory.width(k)
        ranked = retrieve(self._index, catalog.n_items, queries, width, conditions.allowed, dropped, catalog.scale)
        search_end = perf_counter_ns()
        times = (encoding_end - start) / 1000, (search_end - encoding_end) / 1000
        if memory is None:
            return ranked, (*times, None)
        ranked = memory.rank(sessions, k, queries, ranked, conditions, dropped)
        return ranked, (*times, (perf_counter_ns() - search_end) / 1000)


def retrieve(
    index: Index,
    n_items: int,
    queries: np.ndarray,
    k: int,
    allowed: Filter | None,
    dropped: list[np.ndarray] | None,
    scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the index's top k of queries float32[B, d] without each query's own `dropped` ids (distinct, int[..]).

    The first k + n of an exact ranking contain the first k that remain after any n are dropped.
    """
    if dropped is None:
        return index.search(queries, k, allowed, scale=scale)
    ids, scores = padded_lists(len(queries), k)
    # Rounded up to powers of two, so that one long list does not widen the search of every query.
    extra = np.array([1 << (len(ids) - 1).bit_length() if len(ids) else 0 for ids in dropped])
    for width in np.unique(extra):
        rows = np.flatnonzero(extra == width)
        fetch = max(1, min(k + int(width), n_items))
        items, values = index.search(queries[rows], fetch, allowed, scale=scale)
        for row, row_ids, row_values in zip(rows, items, values, strict=True):
            positions = np.flatnonzero(np.isin(row_ids, dropped[row], invert=True))[:k]
            ids[row, : len(positions)] = row_ids[positions]
            scores[row, : len(positions)] = row_values[positions]
    return ids, scores
