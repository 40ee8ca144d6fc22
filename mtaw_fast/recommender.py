"""The serving surface: external ids in, the ranked catalog out."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.filters import Filter
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.errors import UsageError
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.ranking.catalog import Catalog, CatalogIds
from mtaw_fast.ranking.conditions import EVERYTHING, Conditions, checked_k, conditions_of, listed
from mtaw_fast.ranking.encoders import Encoder, make_encoder
from mtaw_fast.ranking.live_session import LiveSession
from mtaw_fast.ranking.pipeline import (
    NativeRanker,
    Served,
    add_times,
    assembled,
    clicked_together,
    explained,
    most_popular,
    retrieve,
    serve,
)
from mtaw_fast.ranking.retrieval import Index, for_items, ladder_of, make_index

_CHUNK_SESSIONS = 1024
_NOTHING = np.empty(0, dtype=np.int32)


class Recommender:
    """Ranks the catalog for the next click of a session. Thread-safe: each call works on one state of the catalog.

    Axes: B sessions, N items. Scores are scale * cosine; ties go to the lower internal id. Where encoder and index
    are native, `recommend` is one native call.
    """

    def __init__(self, bundle: Bundle, encoder: Encoder, index: Index) -> None:
        self.bundle = bundle
        self.encoder = encoder
        self.index = index
        self._served = serve(Catalog.of(bundle.model), encoder, index)
        self._updating = threading.Lock()

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], encoder: str = "auto", index: str = "auto", verify: bool = True
    ) -> Recommender:
        """Load a bundle folder. encoder: auto, native, numpy, eager, onnx, onnx-cuda (see `encoders.make_encoder`).
        index: auto, scan, exact, flat, gpu, ladder (see `retrieval.make_index`).

        Raises BundleError on a damaged bundle, UsageError on an unknown name, MissingPackageError where
        the encoder or index needs a package that is not installed.
        """
        bundle = Bundle.load(folder, verify=verify)
        found = make_index(index, bundle.item_vectors, bundle.scan, ladder_of(bundle))
        return cls(bundle, make_encoder(encoder, bundle), found)

    @property
    def n_items(self) -> int:
        """How many items can be recommended: N, but for added and removed ones."""
        return self._served.catalog.n_items

    @property
    def ids(self) -> ItemIds | CatalogIds:
        """The table of external ids, added and removed items included."""
        return self._served.catalog.ids

    def add_items(
        self,
        items: Sequence[Any],
        *,
        vectors: np.ndarray | None = None,
        neighbours: Sequence[Sequence[Any]] | None = None,
    ) -> None:
        """Add items to the served catalog (not to the bundle's folder), without a new training.

        items: external ids, int or str like the others. Either vectors: float[M, d], a direction each, any length but
        zero; or neighbours: for each item the ids of some known ones, whose mean it takes. Calls that run meanwhile
        end on the catalog they began with; every later one may recommend the new items, find them with similar_items,
        and encode them as clicks: their embedding is the vector at the mean length of the bundle's embeddings.

        Many items in one call cost as much as one. Raises DataError on an id that is there already, of the other type
        or named twice, an unknown neighbour, or vectors that do not fit; nothing is added then. An id that was removed
        may be added again.
        """
        with self._updating:
            catalog = self._served.catalog.with_items(list(listed("items", items)), vectors, neighbours)
            self._served = serve(catalog, self.encoder, self.index)

    def remove_items(self, items: Iterable[Any]) -> None:
        """Never again recommend `items` (external ids): sold out, or added in error. As clicks they stay known.

        Takes effect as `add_items` does. Raises DataError on an item that is not in the catalog; none is removed then.
        """
        with self._updating:
            catalog = self._served.catalog.without_items(list(listed("items", items)))
            self._served = serve(catalog, self.encoder, self.index)

    def filter(self, exclude: Iterable[Any] = (), allow: Iterable[Any] | None = None) -> Filter:
        """Prepare a filter of external ids for many calls; ids that the catalog does not know are ignored."""
        catalog = self._served.catalog
        allowed = None if allow is None else catalog.ids.known(listed("allow", allow))
        excluded = catalog.ids.known(listed("exclude", exclude))
        return Filter.of(catalog.size, excluded, allowed, catalog.model.n_items)

    def session(self, clicks: Iterable[Any] = ()) -> LiveSession:
        """A session to append clicks to, one by one, with a ranking at any moment; `clicks`: the first ones.

        Raises UsageError on clicks that are no list of ids.
        """
        return LiveSession(lambda: self._served).click(*listed("session", clicks))

    def recommend(
        self,
        session: Iterable[Any],
        k: int = 20,
        *,
        exclude: Iterable[Any] = (),
        allow: Iterable[Any] | None = None,
        exclude_seen: bool = False,
        filter: Filter | None = None,
        timings: bool = False,
        repeats: bool = False,
        reasons: bool = False,
    ) -> Recommendations:
        """The k best next items of one session of external ids, oldest click first.

        exclude, allow: external ids never / solely recommended (unknown ones are ignored; an empty
        `allow` allows nothing). exclude_seen: leave the session's own items out. filter: a prepared
        filter; all conditions hold together. Unknown clicks are dropped; where none is left, the
        popularity ranking is given and flagged. Fewer than k results where the filters leave no more.
        timings, repeats, reasons: more about the answer, see `Recommendations`.

        Raises UsageError on a session that is no list of ids, or a k that is no positive whole number.
        """
        start = perf_counter_ns()
        served = self._served
        clicks = listed("session", session)
        conditions = conditions_of(served.catalog, exclude, allow, filter, exclude_seen)
        k = checked_k(k, served.catalog.n_items)
        ready = perf_counter_ns()
        if isinstance(served.ranker, NativeRanker):
            items, scores, unknown, repeated, times = served.ranker.engine.recommend(
                clicks, k, conditions.excluded, conditions.bits, exclude_seen, repeats
            )
            if items is not None:
                answer = Recommendations(items, scores, unknown, False, None, repeated)
                if reasons:
                    answer = explained(served.catalog, answer, _lookup(served, clicks)[0])
                if not timings:
                    return answer
                stages = {"lookup": (ready - start) / 1000}
                add_times(stages, times)
                return answer.timed(stages, start)
        known, unknown = _lookup(served, clicks)
        stages = {"lookup": (perf_counter_ns() - start) / 1000, "encode": 0.0, "retrieve": 0.0}
        packed = Sessions(known, np.array([0, len(known)], dtype=np.int64))
        ids, scores = _rank(served, packed, k, conditions, stages)
        answer = assembled(served.catalog, (ids[0], scores[0]), known, unknown, repeats, reasons)
        return answer.timed(stages, start) if timings else answer

    def recommend_batch(
        self,
        sessions: Sessions | Iterable[Iterable[Any]],
        k: int = 20,
        *,
        exclude: Iterable[Any] = (),
        allow: Iterable[Any] | None = None,
        exclude_seen: bool = False,
        filter: Filter | None = None,
        repeats: bool = False,
        reasons: bool = False,
    ) -> list[Recommendations]:
        """`recommend` for each session: lists of external ids, or packed Sessions of internal ids.

        Every answer equals, to the bit, the one that `recommend` gives for the session alone.
        Raises UsageError as `recommend`, DataError on an internal id outside the catalog.
        """
        served = self._served
        k = checked_k(k, served.catalog.n_items)
        conditions = conditions_of(served.catalog, exclude, allow, filter, exclude_seen)
        unknown: list[list[Any]]
        if isinstance(sessions, Sessions):
            packed, unknown = sessions, [[] for _ in range(len(sessions))]
            packed.check_ids(served.catalog.size, "sessions")
        else:
            pairs = [_lookup(served, listed(f"session {b}", one)) for b, one in enumerate(listed("sessions", sessions))]
            lengths = np.array([len(pair[0]) for pair in pairs], dtype=np.int64)
            packed = Sessions(np.concatenate([_NOTHING, *(pair[0] for pair in pairs)]), offsets_of(lengths))
            unknown = [pair[1] for pair in pairs]
        ids, scores = _rank(served, packed, k, conditions)
        rows = zip(ids, scores, packed, unknown, strict=True)
        return [assembled(served.catalog, row[:2], *row[2:], repeats, reasons) for row in rows]

    def similar_items(
        self,
        item: Any,
        k: int = 20,
        *,
        by: str = "vectors",
        exclude: Iterable[Any] = (),
        allow: Iterable[Any] | None = None,
        filter: Filter | None = None,
    ) -> Recommendations:
        """The k items that are most like the external id `item`, itself left out, with their cosines.

        by: 'vectors', the embeddings', or 'sessions': sessions with both over the root of both items' (`memory.pairs`),
        of the items that the bundle's memory keeps for this one: there may be few, and of an added item none.
        Conditions as in `recommend`. Raises UsageError where the catalog does not know the item, or `by` is 'sessions'
        and the bundle has no memory.
        """
        served = self._served
        catalog = served.catalog
        k = checked_k(k, catalog.n_items)
        place = catalog.ids.lookup([item])
        if place[0] < 0:
            raise UsageError(f"similar_items: the catalog does not know item {item!r}; give one of its external ids")
        conditions = conditions_of(catalog, exclude, allow, filter)
        if by == "sessions":
            found = clicked_together(catalog, int(place[0]), k, conditions)
            if found is None:
                raise UsageError("similar_items: this bundle has no session memory; train one or pass by='vectors'")
            return assembled(catalog, found, place, [], False)
        if by != "vectors":
            raise UsageError(f"similar_items: by must be 'vectors' or 'sessions', not {by!r}")
        dropped = place if conditions.excluded is None else np.union1d(conditions.excluded, place)
        query = catalog.vector(int(place[0]))
        row = retrieve(for_items(served.index), catalog.n_items, query, k, conditions.allowed, [dropped], 1.0)
        return assembled(catalog, (row[0][0], row[1][0]), place, [], False)

    def rank(self, sessions: Sessions, k: int, *, exclude_seen: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """`recommend` on internal ids: (ids int32[B, k], scores float32[B, k]), padded with -1 / -inf.

        An empty session gets the popularity ranking. Raises DataError on an id outside the catalog.
        """
        served = self._served
        sessions.check_ids(served.catalog.size, "sessions")
        width = checked_k(k, served.catalog.n_items)
        ids, scores = _rank(served, sessions, width, Conditions(exclude_seen=True) if exclude_seen else EVERYTHING)
        if width == k:
            return ids, scores
        spare = ((0, 0), (0, k - width))
        return np.pad(ids, spare, constant_values=-1), np.pad(scores, spare, constant_values=-np.inf)


def _rank(
    served: Served, sessions: Sessions, k: int, conditions: Conditions, stages: dict[str, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(ids int32[B, k], scores float32[B, k]) of sessions of internal ids; `stages` gains the timings.

    Empty sessions get the popularity ranking.
    """
    if len(sessions) > _CHUNK_SESSIONS:
        cuts = range(0, len(sessions), _CHUNK_SESSIONS)
        ranked = [_rank(served, sessions.slice(cut, cut + _CHUNK_SESSIONS), k, conditions) for cut in cuts]
        return np.concatenate([part[0] for part in ranked]), np.concatenate([part[1] for part in ranked])
    empty = sessions.offsets[1:] == sessions.offsets[:-1]
    if not empty.any() and len(sessions):
        return served.ranker.rank(sessions, k, conditions, stages)
    ids = np.empty((len(sessions), k), dtype=np.int32)
    scores = np.empty((len(sessions), k), dtype=np.float32)
    if empty.any():
        ids[empty], scores[empty] = most_popular(served.catalog, k, conditions)
    full = np.flatnonzero(~empty)
    if len(full):
        ids[full], scores[full] = served.ranker.rank(sessions.select(full), k, conditions, stages)
    return ids, scores


def _lookup(served: Served, session: Sequence[Any]) -> tuple[np.ndarray, list[Any]]:
    """A session's known clicks (int32[m]) and its unknown ones (external)."""
    found = served.catalog.ids.lookup(session)
    known = found >= 0
    if known.all():
        return found, []
    return found[known], [click for click, fine in zip(session, known, strict=True) if not fine]
