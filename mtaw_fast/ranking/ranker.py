"""The ranker: one native call from clicks to ranked items, with any encoder and any index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native import rules as native
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
from mtaw_fast.ranking.retrieval.ann_plan import LARGEST_K
from mtaw_fast.ranking.retrieval.excluding import search_excluding
from mtaw_fast.rules import AppliedRules

# (items: external ids, best first; scores: float32[len(items)]; unknown: the clicks that the catalog does not know, if
# the session was of external ids; repeats: bool[len(items)] or None; times: Times; effects: None, or under rules boosts
# float64[..], pinned bool[..], and whether an approximate index found too few candidates). Without a known click all
# but `unknown` are None.
Ranked: TypeAlias = tuple[Any, Any, list[Any], np.ndarray | None, Any, Any]
# A ranking of internal ids: (ids int32[k], scores float32[k], effects as above), padded with -1 / -inf without rules.
Row: TypeAlias = tuple[np.ndarray, np.ndarray, Any]
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
        self._approximate = LARGEST_K if index.name == "ann" else 0
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
        net = catalog.model.ranker_net
        self.engine = engine_of(
            catalog.ids.table, encoder.encoder if isinstance(encoder, NativeEncoder) else None,
            index.scanner if isinstance(index, NativeIndex) else None, catalog.scale, self.memory, self.ranker_net,
            side=None if self._segment is None else self._segment.scanner, present=catalog.present,
            trends=catalog.trends,
            content=None if net is None or catalog.trends is None else item_content(net.side, catalog.items),
            rows=catalog.model.item_vectors, added_rows=catalog.vectors if catalog.added else None,
        )  # fmt: skip

    def recommend(
        self, session: Sequence[Any] | np.ndarray, options: Options, applied: AppliedRules | None = None
    ) -> Ranked:
        """Rank for a session: a list or a tuple of external ids, or int32[m] internal ones."""
        k, conditions, repeats = options[:3]
        return self.engine.recommend(
            session, k, conditions.excluded, conditions.bits, conditions.exclude_seen, repeats, conditions.at or 0,
            conditions.context, options.types, self._stages(conditions, applied), self._rules(applied),
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
            conditions.at or 0, conditions.context, options.types, self._stages(conditions), None,
            state.session.native, len(clicks) - state.count,
        )  # fmt: skip
        state.count = len(clicks)
        return ranked, state

    def rank(self, sessions: Sessions, k: int, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
        """Rank sessions of internal ids: (ids int32[B, k], scores float32[B, k]), padded; an empty one as `popular`."""
        ids, scores, _ = self.engine.rank(
            *_packed(sessions), k, conditions.excluded, conditions.bits, conditions.exclude_seen, conditions.at or 0,
            conditions.context, *_of_clicks(sessions), None, self._stages(conditions), self._popular(sessions),
        )  # fmt: skip
        return ids, scores

    def rank_ruled(self, sessions: Sessions, k: int, conditions: Conditions, applied: AppliedRules) -> list[Row]:
        """Rank sessions of internal ids under the same rules."""
        rules = self._rules(applied)
        assert rules is not None
        return list(self.engine.rank_ruled(
            *_packed(sessions), k, rules, conditions.excluded, conditions.bits, conditions.exclude_seen,
            conditions.at or 0, conditions.context, *_of_clicks(sessions), self._stages(conditions, applied),
            self._popular(sessions),
        ))  # fmt: skip

    def trace(
        self, clicks: np.ndarray, options: Options, applied: AppliedRules | None = None
    ) -> tuple[np.ndarray, np.ndarray, Any, dict[str, Any]]:
        """Rank for a session of known clicks int32[m], m >= 1, and return also what the ranking went through.

        Returns a row without padding, and the arrays of `engine.trace`.
        """
        conditions = options.conditions
        ids, scores, effects, arrays = self.engine.trace(
            np.ascontiguousarray(clicks), options.k, conditions.excluded, conditions.bits, conditions.exclude_seen,
            conditions.at or 0, conditions.context, options.types, self._stages(conditions, applied),
            self._rules(applied),
        )  # fmt: skip
        return ids, scores, effects, arrays

    @property
    def is_approximate(self) -> bool:
        """Whether the index may miss items."""
        return self._approximate > 0

    def popular(self, k: int, conditions: Conditions, applied: AppliedRules | None = None) -> Row:
        """Rank the most clicked items, or with trends those that rise now.

        The scores of rising items are those of `Trends.rising`. Each of the others has a score 1 lower than the item
        before it, which only expresses their order.
        """
        return self.engine.popular(
            k, (self._catalog.most_clicked, self._catalog.popularity), conditions.excluded, conditions.bits,
            conditions.at or 0, self._rules(applied),
        )  # fmt: skip

    def similar(
        self,
        item: int,
        by: Literal["vectors", "sessions"],
        k: int,
        conditions: Conditions,
        applied: AppliedRules | None = None,
    ) -> Row:
        """Rank the items most similar to one by their cosines."""
        other, by_sessions = None, by == "sessions"
        if self._search is not None:
            allowed = conditions.within(None if applied is None else applied.filter).allowed
            other = None, partial(search_excluding, for_items(self._searched), self._catalog, allowed, scale=1.0)
        rules = self._rules(applied, 0 if by_sessions else None)
        return self.engine.similar(item, k, by_sessions, conditions.excluded, conditions.bits, other, rules)

    def reasons(self, clicks: np.ndarray, items: np.ndarray, effects: Any = None) -> list[Reason]:
        """Return why each of `items` int32[k] is in the answer to `clicks` int32[m]; both internal ids.

        effects: those of the ranking.
        """
        return [Reason(*reason) for reason in self.engine.reasons(clicks, np.ascontiguousarray(items), effects)]

    def sessions_together(self, item: int, clicks: np.ndarray) -> np.ndarray:
        """Return float64[m]: how many past sessions contain an item together with each of clicks int32[m].

        Above 256 it is rounded to 8 bits. Sessions that were learned since the last compaction do not count.
        """
        return self.engine.sessions_together(item, np.ascontiguousarray(clicks))

    def _popular(self, sessions: Sessions) -> tuple[np.ndarray, np.ndarray] | None:
        """Return what `engine` reads of the items' clicks where a session is empty."""
        return None if sessions.lengths.all() else (self._catalog.most_clicked, self._catalog.popularity)

    def _rules(
        self, applied: AppliedRules | None, approximate: int | None = None
    ) -> tuple[native.AppliedRules, int, int] | None:
        """Return the rules of a call. approximate: up to how many items it ranks so; None: as the index does."""
        if applied is None:
            return None
        return applied.native, self._catalog.n_items, self._approximate if approximate is None else approximate

    def _stages(self, conditions: Conditions, applied: AppliedRules | None = None) -> _Stages | None:
        """Return what a call takes from an encoder and an index that are not native; None if both are."""
        if self._encode is None and self._search is None:
            return None
        allowed = conditions.within(None if applied is None else applied.filter).allowed
        return self._encode, None if self._search is None else partial(self._search, allowed)


def _packed(sessions: Sessions) -> tuple[np.ndarray, np.ndarray]:
    return np.ascontiguousarray(sessions.items), np.ascontiguousarray(sessions.offsets)


def _of_clicks(sessions: Sessions) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Return the times, the context and the types of the clicks."""
    return _contiguous(sessions.times), _contiguous(sessions.context), _contiguous(sessions.types)


def _contiguous(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else np.ascontiguousarray(array)


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
