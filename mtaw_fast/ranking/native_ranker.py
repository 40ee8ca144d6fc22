"""The ranker in one native call, for a native encoder and a native index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.encoder import SessionState
from mtaw_fast.kernels.native.engine import Engine, engine_of
from mtaw_fast.kernels.native.memory_query import NativeRankerNet, SessionMemory
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.memory_stage import content_of, memory_parts
from mtaw_fast.ranking.options import Conditions, Options
from mtaw_fast.ranking.ranker import GrowingState, Ranked, StageTimes
from mtaw_fast.ranking.retrieval import NativeIndex
from mtaw_fast.rules import AppliedRules

# items: external ids; scores float32[..]; unknown; boosts float64[..], pinned bool[..] as in `rules.Arranged`; repeats;
# times. All but `unknown` are None if no click is known.
RuledAnswer: TypeAlias = tuple[Any, Any, list[Any], Any, Any, np.ndarray | None, Any]


class EncodedClicks:
    """`GrowingState`: the native encoder's state of a session's first `count` clicks.

    Rankers with the same encoder share it, so a new state of the catalog does not encode every session again.
    """

    __slots__ = ("count", "encoder", "session")

    def __init__(self, encoder: NativeEncoder) -> None:
        self.encoder = encoder
        self.session: SessionState = encoder.session()
        self.count = 0

    @property
    def n_bytes(self) -> int:
        """See `GrowingState.n_bytes`."""
        return self.session.n_bytes


class NativeRanker:
    """`Ranker` in one native call; `engine` is the call (`kernels.native.engine`).

    encoder, index: the model's own. before: the ranker of an earlier state of the same model's catalog; unchanged
    parts are reused.
    """

    def __init__(
        self, catalog: Catalog, encoder: NativeEncoder, index: NativeIndex, before: NativeRanker | None = None
    ) -> None:
        self._encoder = encoder  # the same for every state of the catalog: a growing session outlives many states
        self._parts: NativeEngine = NativeEngine.of(catalog, encoder, index, None if before is None else before._parts)
        self.engine = self._parts.engine

    def recommend(self, session: Sequence[Any], options: Options) -> Ranked:
        """See `Ranker.recommend`."""
        k, conditions, repeats = options[:3]
        return self.engine.recommend(
            session, k, conditions.excluded, conditions.bits, conditions.exclude_seen, repeats,
            conditions.at or 0, conditions.context, options.types,
        )  # fmt: skip

    def recommend_growing(
        self, clicks: np.ndarray, state: GrowingState | None, options: Options
    ) -> tuple[Ranked, GrowingState]:
        """See `Ranker.recommend_growing`; the state is extended by the new clicks."""
        k, conditions, repeats = options[:3]
        if not isinstance(state, EncodedClicks) or state.encoder is not self._encoder:
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
        """See `Ranker.rank`."""
        return self.rank_timed(sessions, k, conditions)[0]

    def rank_timed(
        self, sessions: Sessions, k: int, conditions: Conditions
    ) -> tuple[tuple[np.ndarray, np.ndarray], StageTimes]:
        """See `Ranker.rank_timed`."""
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


@dataclass(frozen=True, slots=True, eq=False)
class NativeEngine:
    """The engine over a catalog of N + M items, and the parts that the next state can reuse.

    engine: the native call, with the catalog's trends and the content of its items. segment: the index of the M added
    items. memory, ranker_net: the model's, both or neither. capacity: how many items `memory` can take, at least N + M.
    """

    engine: Engine
    segment: NativeIndex | None
    memory: SessionMemory | None
    ranker_net: NativeRankerNet | None
    capacity: int

    @classmethod
    def of(
        cls, catalog: Catalog, encoder: NativeEncoder, index: NativeIndex, before: NativeEngine | None
    ) -> NativeEngine:
        """Return the engine of a catalog.

        encoder, index: those of the model's own items. before: the engine of an earlier state of the catalog, whose
        parts are used again where they fit.
        """
        segment = None
        if catalog.added:
            encoder = encoder.extended(catalog.embeddings)
            segment = None if before is None else before.segment
            segment = NativeIndex(catalog.vectors) if segment is None else segment.rebuilt(catalog.vectors)
        memory, ranker_net, capacity = _memory_of(catalog, before)
        present = np.packbits(~catalog.unavailable, bitorder="little") if catalog.n_items < catalog.size else None
        engine = engine_of(
            catalog.ids.table, encoder.encoder, index.scanner, catalog.scale, memory, ranker_net,
            side=None if segment is None else segment.scanner, present=present,
            trends=catalog.trends, content=content_of(catalog),
        )  # fmt: skip
        return cls(engine, segment, memory, ranker_net, capacity)


def _memory_of(
    catalog: Catalog, before: NativeEngine | None
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
