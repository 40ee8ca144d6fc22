"""The ranker in one native call, where encoder and index are native."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.encoder import SessionState
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.conditions import Conditions
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.native_engine import NativeEngine
from mtaw_fast.ranking.options import Options
from mtaw_fast.ranking.ranker import GrowingState, Ranked
from mtaw_fast.ranking.retrieval import NativeIndex


class EncodedClicks:
    """`GrowingState`: the native encoder's state of a session's first `count` clicks.

    Rankers of one encoder continue each other's, so a new state of the catalog does not encode every session again.
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

    encoder, index: the model's own. before: the ranker of an earlier state of the same model's catalog, which lends
    what both states have in common.
    """

    def __init__(
        self, catalog: Catalog, encoder: NativeEncoder, index: NativeIndex, before: NativeRanker | None = None
    ) -> None:
        self._encoder = encoder  # that of every state of the catalog: a growing session outlives many of them
        self._parts: NativeEngine = NativeEngine.of(catalog, encoder, index, None if before is None else before._parts)
        self.engine = self._parts.engine

    def recommend(self, session: Sequence[Any], options: Options) -> Ranked:
        """See `Ranker.recommend`."""
        k, conditions, repeats, _ = options
        return self.engine.recommend(session, k, conditions.excluded, conditions.bits, conditions.exclude_seen, repeats)

    def recommend_growing(
        self, clicks: np.ndarray, state: GrowingState | None, options: Options
    ) -> tuple[Ranked, GrowingState]:
        """See `Ranker.recommend_growing`; the state gains the clicks that it lacks."""
        k, conditions, repeats, _ = options
        if not isinstance(state, EncodedClicks) or state.encoder is not self._encoder:
            state = EncodedClicks(self._encoder)
        ranked = self.engine.recommend_live(
            state.session.native, clicks, len(clicks) - state.count, k,
            conditions.excluded, conditions.bits, conditions.exclude_seen, repeats,
        )  # fmt: skip
        state.count = len(clicks)
        return ranked, state

    def rank(self, sessions: Sessions, k: int, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
        """See `Ranker.rank`."""
        ids, scores, _ = self.engine.rank(
            sessions.items, sessions.offsets, k, conditions.excluded, conditions.bits, conditions.exclude_seen
        )
        return ids, scores
