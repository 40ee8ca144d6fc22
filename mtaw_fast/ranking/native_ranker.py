"""The ranker in one native call, for a native encoder and a native index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.encoder import SessionState
from mtaw_fast.kernels.native.engine import engine_of
from mtaw_fast.kernels.native.memory_query import NativeRankerNet, SessionMemory
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.memory_stage import content_of, memory_parts
from mtaw_fast.ranking.options import Conditions, Options
from mtaw_fast.ranking.retrieval import NativeIndex
from mtaw_fast.rules import AppliedRules

# Microseconds: (encode, retrieve, session memory or None without one).
StageTimes: TypeAlias = tuple[float, float, float | None]
# (items: external ids, best first; scores: float32[len(items)]; unknown: the clicks that the catalog does not know, or
# None for a growing session; repeats: bool[len(items)] or None; times: Times). Without a known click all but `unknown`
# are None.
Ranked: TypeAlias = tuple[Any, Any, Any, np.ndarray | None, Any]
# The same under rules: before `repeats` come boosts float64[..] and pinned bool[..], as in `rules.Arranged`.
RuledAnswer: TypeAlias = tuple[Any, Any, list[Any], Any, Any, np.ndarray | None, Any]


class EncodedClicks:
    """The native encoder's state of a session's first `count` clicks, so that a call encodes only the new ones.

    Rankers with the same encoder share it, so a new state of the catalog does not encode every session again. It
    belongs to one call at a time, and must not be used again after a call that raised.
    """

    __slots__ = ("count", "encoder", "session")

    def __init__(self, encoder: NativeEncoder) -> None:
        self.encoder = encoder
        self.session: SessionState = encoder.session()
        self.count = 0


class NativeRanker:
    """Ranks one state of a catalog of N + M items in one native call, `engine` (`kernels.native.engine`).

    Thread-safe; all methods give the same ranking of the same clicks, to the bit. Types of clicks are codes of those
    that the model's ranker net reads: `Options.types` of a single session, `Sessions.types` of many.

    encoder, index: those of the model's own items. before: the ranker of an earlier state of the same model's catalog;
    parts that fit are used again.

    memory, ranker_net: the model's, both or neither. capacity: how many items `memory` can take, at least N + M.
    """

    def __init__(
        self, catalog: Catalog, encoder: NativeEncoder, index: NativeIndex, before: NativeRanker | None = None
    ) -> None:
        self._encoder = encoder  # the same for every state of the catalog: a growing session outlives many states
        self._segment: NativeIndex | None = None  # of the M added items
        if catalog.added:
            encoder = encoder.extended(catalog.embeddings)
            segment = None if before is None else before._segment
            self._segment = NativeIndex(catalog.vectors) if segment is None else segment.rebuilt(catalog.vectors)
        self.memory, self.ranker_net, self.capacity = _memory_of(catalog, before)
        present = np.packbits(~catalog.unavailable, bitorder="little") if catalog.n_items < catalog.size else None
        self.engine = engine_of(
            catalog.ids.table, encoder.encoder, index.scanner, catalog.scale, self.memory, self.ranker_net,
            side=None if self._segment is None else self._segment.scanner, present=present,
            trends=catalog.trends, content=content_of(catalog),
        )  # fmt: skip

    def recommend(self, session: Sequence[Any], options: Options) -> Ranked:
        """Rank for a session of external ids, a list or a tuple."""
        k, conditions, repeats = options[:3]
        return self.engine.recommend(
            session, k, conditions.excluded, conditions.bits, conditions.exclude_seen, repeats,
            conditions.at or 0, conditions.context, options.types,
        )  # fmt: skip

    def recommend_growing(
        self, clicks: np.ndarray, state: EncodedClicks | None, options: Options
    ) -> tuple[Ranked, EncodedClicks]:
        """Rank for a growing session of known clicks int32[m], m >= 1; also return the `state` for its next call.

        state: what a ranker returned for its earlier clicks; None or one of another encoder begins from the start.
        """
        k, conditions, repeats = options[:3]
        if state is None or state.encoder is not self._encoder:
            state = EncodedClicks(self._encoder)
        ranked = self.engine.recommend_growing(
            state.session.native, clicks, len(clicks) - state.count, k,
            conditions.excluded, conditions.bits, conditions.exclude_seen, repeats,
            conditions.at or 0, conditions.context, options.types,
        )  # fmt: skip
        state.count = len(clicks)
        return ranked, state

    def recommend_ruled(
        self,
        session: Sequence[Any] | np.ndarray,
        options: Options,
        allowed: Filter | None,
        applied: AppliedRules,
        pins: list[tuple[int, int]],
        n_shown: int,
    ) -> RuledAnswer:
        """Return what `ruled_ranking` gives for one session, in one native call.

        session: external ids, or int32[m] internal ones. allowed: instead of the options'; with the filter of the
        rules. pins: those of items that may be shown. n_shown: how many items can be recommended.
        """
        k, conditions, repeats = options[:3]
        return self.engine.recommend_ruled(
            session, k, applied.depth(k, n_shown), n_shown, conditions.excluded,
            None if allowed is None else allowed.packed, conditions.exclude_seen, repeats, applied.arrangement, pins,
            conditions.at or 0, conditions.context, options.types,
        )  # fmt: skip

    def rank(self, sessions: Sessions, k: int, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
        """Rank sessions of internal ids, none of them empty: (ids int32[B, k], scores float32[B, k]), padded."""
        return self.rank_timed(sessions, k, conditions)[0]

    def rank_timed(
        self, sessions: Sessions, k: int, conditions: Conditions
    ) -> tuple[tuple[np.ndarray, np.ndarray], StageTimes]:
        """Return what `rank` does, and the times of its stages."""
        items, offsets = np.ascontiguousarray(sessions.items), np.ascontiguousarray(sessions.offsets)
        times, contexts, types = (
            None if array is None else np.ascontiguousarray(array)
            for array in (sessions.times, sessions.context, sessions.types)
        )
        ids, scores, (_, encode, retrieve, memory) = self.engine.rank(
            items, offsets, k, conditions.excluded, conditions.bits, conditions.exclude_seen,
            conditions.at or 0, conditions.context, times, contexts, types, conditions.always_ranked,
        )  # fmt: skip
        return (ids, scores), (encode, retrieve, memory)


def _memory_of(
    catalog: Catalog, before: NativeRanker | None
) -> tuple[SessionMemory | None, NativeRankerNet | None, int]:
    """Return the memory, its ranker and its capacity: those of `before` if they fit and have room, else new ones."""
    if catalog.memory is not None and before is not None and before.memory is catalog.memory:
        return before.memory, before.ranker_net, before.capacity
    if catalog.memory is not None and (parts := memory_parts(catalog)) is not None:
        return *parts, catalog.size
    if before is not None and (before.memory is None or before.capacity >= catalog.size):
        return before.memory, before.ranker_net, before.capacity
    capacity = catalog.roomy_size if catalog.trends is None else catalog.trends.capacity
    parts = memory_parts(catalog, capacity)
    return (None, None, capacity) if parts is None else (*parts, capacity)
