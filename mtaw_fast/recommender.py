"""The serving surface: external ids in, the ranked catalog out."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter_ns
from typing import Any, Unpack

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.filters import Filter
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.errors import UsageError
from mtaw_fast.ranking.answer import Recommendations, assembled, timed
from mtaw_fast.ranking.catalog import Catalog, CatalogIds
from mtaw_fast.ranking.composed_ranker import retrieve
from mtaw_fast.ranking.conditions import EVERYTHING, Conditions, checked_k, conditions_of, listed
from mtaw_fast.ranking.encoders import Encoder, make_encoder
from mtaw_fast.ranking.item_lists import clicked_together
from mtaw_fast.ranking.live_session import LiveSession
from mtaw_fast.ranking.options import OptionKeywords, options_of
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import Index, for_items, ladder_of, make_index

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
        self._pipeline = Pipeline.of(Catalog.of(bundle.model), encoder, index)
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
        return self._pipeline.catalog.n_items

    @property
    def ids(self) -> ItemIds | CatalogIds:
        """The table of external ids, added and removed items included."""
        return self._pipeline.catalog.ids

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
        added = list(listed("items", items))
        self._update(lambda catalog: catalog.with_items(added, vectors, neighbours))

    def remove_items(self, items: Iterable[Any]) -> None:
        """Never again recommend `items` (external ids): sold out, or added in error. As clicks they stay known.

        Takes effect as `add_items` does. Raises DataError on an item that is not in the catalog; none is removed then.
        """
        removed = list(listed("items", items))
        self._update(lambda catalog: catalog.without_items(removed))

    def _update(self, change: Callable[[Catalog], Catalog]) -> None:
        """Put the next state of the catalog in the place of this one; updates wait for each other, rankings do not."""
        with self._updating:
            self._pipeline = Pipeline.of(change(self._pipeline.catalog), self.encoder, self.index)

    def filter(self, exclude: Iterable[Any] = (), allow: Iterable[Any] | None = None) -> Filter:
        """Prepare a filter of external ids for many calls; ids that the catalog does not know are ignored."""
        catalog = self._pipeline.catalog
        allowed = None if allow is None else catalog.ids.known(listed("allow", allow))
        excluded = catalog.ids.known(listed("exclude", exclude))
        return Filter.of(catalog.size, excluded, allowed, catalog.model.n_items)

    def session(self, clicks: Iterable[Any] = ()) -> LiveSession:
        """A session to append clicks to, one by one, with a ranking at any moment; `clicks`: the first ones.

        Raises UsageError on clicks that are no list of ids.
        """
        return LiveSession(lambda: self._pipeline).click(*listed("session", clicks))

    def recommend(
        self,
        session: Iterable[Any],
        k: int = 20,
        *,
        timings: bool = False,
        **options: Unpack[OptionKeywords],
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
        pipeline = self._pipeline
        clicks = listed("session", session)
        checked = options_of(pipeline.catalog, k, **options)
        ready = perf_counter_ns()
        answer, times = pipeline.recommend(clicks, checked)
        return timed(answer, times, start, ready) if timings else answer

    def recommend_batch(
        self,
        sessions: Sessions | Iterable[Iterable[Any]],
        k: int = 20,
        **options: Unpack[OptionKeywords],
    ) -> list[Recommendations]:
        """`recommend` for each session: lists of external ids, or packed Sessions of internal ids.

        Every answer equals, to the bit, the one that `recommend` gives for the session alone.
        Raises UsageError as `recommend`, DataError on an internal id outside the catalog.
        """
        pipeline = self._pipeline
        checked = options_of(pipeline.catalog, k, **options)
        if isinstance(sessions, Sessions):
            return pipeline.recommend_batch(sessions, [[] for _ in range(len(sessions))], checked)
        lists = [listed(f"session {b}", one) for b, one in enumerate(listed("sessions", sessions))]
        pairs = [pipeline.catalog.clicks_of(one) for one in lists]
        lengths = np.array([len(known) for known, _ in pairs], dtype=np.int64)
        packed = Sessions(np.concatenate([_NOTHING, *(known for known, _ in pairs)]), offsets_of(lengths))
        return pipeline.recommend_batch(packed, [unknown for _, unknown in pairs], checked)

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
        pipeline = self._pipeline
        catalog = pipeline.catalog
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
        row = retrieve(for_items(pipeline.index), catalog.n_items, query, k, conditions.allowed, [dropped], 1.0)
        return assembled(catalog, (row[0][0], row[1][0]), place, [], False)

    def rank(self, sessions: Sessions, k: int, *, exclude_seen: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """`recommend` on internal ids: (ids int32[B, k], scores float32[B, k]), padded with -1 / -inf.

        An empty session gets the popularity ranking. Raises DataError on an id outside the catalog.
        """
        pipeline = self._pipeline
        checked_k(k, pipeline.catalog.n_items)
        return pipeline.rank(sessions, int(k), Conditions(exclude_seen=True) if exclude_seen else EVERYTHING)
