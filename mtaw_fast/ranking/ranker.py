"""The ranker: one native call from clicks to ranked items, with any encoder and any index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.encoder import SessionState
from mtaw_fast.kernels.native.memory_query import NativeRankerNet, SessionMemory
from mtaw_fast.kernels.native.rank import engine_of
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.ranking.answer import Reason
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.encoders import Encoder, NativeEncoder
from mtaw_fast.ranking.item_content import item_content
from mtaw_fast.ranking.options import Conditions, Options
from mtaw_fast.ranking.retrieval import Index, NativeIndex, for_items
from mtaw_fast.ranking.retrieval.excluding import search_excluding
from mtaw_fast.rules import AppliedRules

# (items: external ids, best first; scores: float32[len(items)]; unknown: the clicks that the catalog does not know, if
# the session was of external ids; repeats: bool[len(items)] or None; times: Times; effects: None, or under rules boosts
# float64[..], pinned bool[..], and whether an approximate index found too few candidates). Without a known click all
# but `unknown` are None.
Ranked: TypeAlias = tuple[Any, Any, list[Any], np.ndarray | None, Any, Any]
_Stages: TypeAlias = tuple[Callable[..., np.ndarray] | None, Callable[..., tuple[np.ndarray, np.ndarray]] | None]


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


class Ranker:
    """Ranks one state of a catalog of N + M items in one native call, `engine` (`kernels.native.rank`).

    Another encoder than the native one gives the call its query vectors, another index its candidates and their logits.
    Thread-safe; all methods give the same ranking of the same clicks, to the bit. Types of clicks are codes of those
    that the model's ranker net reads: `Options.types` of a single session, `Sessions.types` of many.

    encoder, index: those of the model's own items. searched: the index of the catalog's items, for an index that is not
    native. before: the ranker of an earlier state of the same model's catalog; parts that fit are used again.

    memory, ranker_net: the model's, both or neither. capacity: how many items `memory` can take, at least N + M.
    """

    def __init__(
        self, catalog: Catalog, encoder: Encoder, index: Index, searched: Index, before: Ranker | None = None
    ) -> None:
        self._catalog, self._searched = catalog, searched
        # The same for every state of the catalog: a growing session outlives many states.
        self._encoder = encoder if isinstance(encoder, NativeEncoder) else None
        if catalog.added:
            encoder = encoder.extended(catalog.embeddings)
        self._segment: NativeIndex | None = None  # of the M added items
        if catalog.added and isinstance(index, NativeIndex):
            segment = None if before is None else before._segment
            self._segment = NativeIndex(catalog.vectors) if segment is None else segment.rebuilt(catalog.vectors)
        self._encode = None if isinstance(encoder, NativeEncoder) else partial(_encoded, encoder)
        self._search = None if isinstance(index, NativeIndex) else partial(search_excluding, searched, catalog)
        self.memory, self.ranker_net, self.capacity = _memory_of(catalog, before)
        present = np.packbits(~catalog.unavailable, bitorder="little") if catalog.n_items < catalog.size else None
        net = catalog.model.ranker_net
        self.engine = engine_of(
            catalog.ids.table, encoder.encoder if isinstance(encoder, NativeEncoder) else None,
            index.scanner if isinstance(index, NativeIndex) else None, catalog.scale, self.memory, self.ranker_net,
            side=None if self._segment is None else self._segment.scanner, present=present, trends=catalog.trends,
            content=None if net is None or catalog.trends is None else item_content(net.side, catalog.items),
            rows=catalog.model.item_vectors, added_rows=catalog.vectors if catalog.added else None,
        )  # fmt: skip

    def recommend(self, session: Sequence[Any] | np.ndarray, options: Options) -> Ranked:
        """Rank for a session: a list or a tuple of external ids, or int32[m] internal ones."""
        k, conditions, repeats = options[:3]
        return self.engine.recommend(
            session, k, conditions.excluded, conditions.bits, conditions.exclude_seen, repeats,
            conditions.at or 0, conditions.context, options.types, self._stages(conditions.allowed),
        )  # fmt: skip

    def recommend_growing(
        self, clicks: np.ndarray, state: EncodedClicks | None, options: Options
    ) -> tuple[Ranked, EncodedClicks | None]:
        """Rank for a growing session of known clicks int32[m], m >= 1; also return the `state` for its next call.

        state: what a ranker returned for its earlier clicks; None or one of another encoder begins from the start, and
        an encoder that is not native always does.
        """
        if self._encoder is None:
            return self.recommend(clicks, options), None
        k, conditions, repeats = options[:3]
        if state is None or state.encoder is not self._encoder:
            state = EncodedClicks(self._encoder)
        ranked = self.engine.recommend(
            clicks, k, conditions.excluded, conditions.bits, conditions.exclude_seen, repeats,
            conditions.at or 0, conditions.context, options.types, self._stages(conditions.allowed), None,
            state.session.native, len(clicks) - state.count,
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
        approximate: int,
    ) -> Ranked:
        """Rank for a session, as `recommend` takes it, under rules.

        allowed: instead of the options'; with the filter of the rules. pins: those of items that may be shown. n_shown:
        how many items can be recommended. approximate: up to how many items the index is approximate, 0 if it is exact.
        """
        k, conditions, repeats = options[:3]
        return self.engine.recommend(
            session, k, conditions.excluded, None if allowed is None else allowed.packed, conditions.exclude_seen,
            repeats, conditions.at or 0, conditions.context, options.types, self._stages(allowed),
            (applied.arrangement, pins, applied.depth(k, n_shown), n_shown, approximate),
        )  # fmt: skip

    def rank(self, sessions: Sessions, k: int, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
        """Rank sessions of internal ids, none of them empty: (ids int32[B, k], scores float32[B, k]), padded."""
        items, offsets = np.ascontiguousarray(sessions.items), np.ascontiguousarray(sessions.offsets)
        times, contexts, types = (
            None if array is None else np.ascontiguousarray(array)
            for array in (sessions.times, sessions.context, sessions.types)
        )
        ids, scores, _ = self.engine.rank(
            items, offsets, k, conditions.excluded, conditions.bits, conditions.exclude_seen, conditions.at or 0,
            conditions.context, times, contexts, types, conditions.always_ranked, self._stages(conditions.allowed),
        )  # fmt: skip
        return ids, scores

    def popular(self, k: int, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
        """Rank the most clicked items, or with trends those that rise now: (ids int32[k], scores float32[k]), padded.

        The scores of rising items are those of `Trends.rising`. Each of the others has a score 1 lower than the item
        before it, which only expresses their order.
        """
        catalog = self._catalog
        return self.engine.popular(
            k, catalog.most_clicked, catalog.popularity, conditions.excluded, conditions.bits, conditions.at or 0
        )

    def similar(
        self, item: int, by: Literal["vectors", "sessions"], k: int, conditions: Conditions
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rank the items most similar to one by their cosines: (ids int32[k], scores float32[k]), padded."""
        other = None
        if self._search is not None:
            index = for_items(self._searched)
            other = None, partial(search_excluding, index, self._catalog, conditions.allowed, scale=1.0)
        return self.engine.similar(item, k, by == "sessions", conditions.excluded, conditions.bits, other)

    def reasons(self, clicks: np.ndarray, items: np.ndarray) -> list[Reason]:
        """Return why each of `items` int32[k] is in the answer to `clicks` int32[m]; both internal ids."""
        return [Reason(*reason) for reason in self.engine.reasons(clicks, np.ascontiguousarray(items))]

    def _stages(self, allowed: Filter | None) -> _Stages | None:
        """Return what a call takes from an encoder and an index that are not native; None if both are."""
        if self._encode is None and self._search is None:
            return None
        return self._encode, None if self._search is None else partial(self._search, allowed)


def _encoded(encoder: Encoder, items: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return encoder.encode(Sessions(items, offsets))


def _memory_of(catalog: Catalog, before: Ranker | None) -> tuple[SessionMemory | None, NativeRankerNet | None, int]:
    """Return the memory, its ranker and its capacity: those of `before` if they fit and have room, else new ones.

    A memory of the catalog's own is used as it is.
    """
    if before is not None and (
        before.memory is catalog.memory
        if catalog.memory is not None
        else before.memory is None or before.capacity >= catalog.size
    ):
        return before.memory, before.ranker_net, before.capacity
    model = catalog.model
    capacity = catalog.roomy_size if catalog.trends is None else catalog.trends.capacity
    if model.memory is None or model.ranker_net is None:
        return None, None, capacity
    if catalog.memory is not None:
        return catalog.memory, model.ranker_net.native(), catalog.size
    settings = query_settings(model.config, model.trends is not None)
    return model.memory.queries(max(capacity, catalog.size), settings), model.ranker_net.native(), capacity
