"""The serving surface: external ids in, the ranked catalog out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.encoders import Encoder, make_encoder
from mtaw_fast.errors import UsageError
from mtaw_fast.filters import Filter
from mtaw_fast.itemids import ItemIds
from mtaw_fast.live import LiveSession
from mtaw_fast.ranking import NativeRanker, assembled, make_ranker, most_popular, retrieve
from mtaw_fast.recommendations import Recommendations
from mtaw_fast.requests import EVERYTHING, Conditions, checked_k, conditions_of, listed
from mtaw_fast.retrieval import Index, make_index
from mtaw_fast.sessions import Sessions, offsets_of

_CHUNK_SESSIONS = 1024
_NOTHING = np.empty(0, dtype=np.int32)


class Recommender:
    """Ranks the catalog for the next click of a session. Thread-safe: nothing changes after loading.

    Axes: B sessions, N items. Scores are scale * cosine; ties go to the lower internal id. Where encoder and index
    are native, `recommend` is one native call.
    """

    def __init__(self, bundle: Bundle, encoder: Encoder, index: Index) -> None:
        self.bundle = bundle
        self.encoder = encoder
        self.index = index
        self._ranker = make_ranker(bundle, encoder, index)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], encoder: str = "auto", index: str = "auto", verify: bool = True
    ) -> Recommender:
        """Load a bundle folder. encoder: auto, native, numpy, eager. index: auto, scan, exact, flat.

        Raises BundleError on a damaged bundle, UsageError on an unknown name, MissingPackageError where
        the encoder or index needs a package that is not installed.
        """
        bundle = Bundle.load(folder, verify=verify)
        return cls(bundle, make_encoder(encoder, bundle), make_index(index, bundle.catalog, bundle.scan))

    @property
    def n_items(self) -> int:
        """N, the size of the catalog."""
        return self.bundle.n_items

    @property
    def ids(self) -> ItemIds:
        """The table of external ids."""
        return self.bundle.ids

    def filter(self, exclude: Iterable[Any] = (), allow: Iterable[Any] | None = None) -> Filter:
        """Prepare a filter of external ids for many calls; ids that the catalog does not know are ignored."""
        allowed = None if allow is None else self.ids.known(listed("allow", allow))
        return Filter.of(self.n_items, self.ids.known(listed("exclude", exclude)), allowed)

    def session(self, clicks: Iterable[Any] = ()) -> LiveSession:
        """A session to append clicks to, one by one, with a ranking at any moment; `clicks`: the first ones.

        Raises UsageError on clicks that are no list of ids.
        """
        return LiveSession(self.bundle, self._ranker).click(*listed("session", clicks))

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
    ) -> Recommendations:
        """The k best next items of one session of external ids, oldest click first.

        exclude, allow: external ids never / solely recommended (unknown ones are ignored; an empty
        `allow` allows nothing). exclude_seen: leave the session's own items out. filter: a prepared
        filter; all conditions hold together. Unknown clicks are dropped; where none is left, the
        popularity ranking is given and flagged. Fewer than k results where the filters leave no more.

        Raises UsageError on a session that is no list of ids, or a k that is no positive whole number.
        """
        start = perf_counter_ns()
        clicks = listed("session", session)
        conditions = conditions_of(self.ids, exclude, allow, filter, exclude_seen)
        k = checked_k(k, self.n_items)
        ready = perf_counter_ns()
        if isinstance(self._ranker, NativeRanker):
            items, scores, unknown, repeated, times = self._ranker.engine.recommend(
                clicks, k, conditions.excluded, conditions.bits, exclude_seen, repeats
            )
            if items is not None:
                answer = Recommendations(items, scores, unknown, False, None, repeated)
                if not timings:
                    return answer
                lookup, encode, search = times
                lookup += (ready - start) / 1000
                return answer.timed({"lookup": lookup, "encode": encode, "retrieve": search}, start)
        known, unknown = self._lookup(clicks)
        stages = {"lookup": (perf_counter_ns() - start) / 1000, "encode": 0.0, "retrieve": 0.0}
        packed = Sessions(known, np.array([0, len(known)], dtype=np.int64))
        ids, scores = self._rank(packed, k, conditions, stages)
        answer = assembled(self.bundle, (ids[0], scores[0]), known, unknown, repeats)
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
    ) -> list[Recommendations]:
        """`recommend` for each session: lists of external ids, or packed Sessions of internal ids.

        Every answer equals, to the bit, the one that `recommend` gives for the session alone.
        Raises UsageError as `recommend`, DataError on an internal id outside the catalog.
        """
        k = checked_k(k, self.n_items)
        conditions = conditions_of(self.ids, exclude, allow, filter, exclude_seen)
        unknown: list[list[Any]]
        if isinstance(sessions, Sessions):
            packed, unknown = sessions, [[] for _ in range(len(sessions))]
            packed.check_ids(self.n_items, "sessions")
        else:
            pairs = [self._lookup(listed(f"session {b}", one)) for b, one in enumerate(listed("sessions", sessions))]
            lengths = np.array([len(pair[0]) for pair in pairs], dtype=np.int64)
            packed = Sessions(np.concatenate([_NOTHING, *(pair[0] for pair in pairs)]), offsets_of(lengths))
            unknown = [pair[1] for pair in pairs]
        ids, scores = self._rank(packed, k, conditions)
        rows = zip(ids, scores, packed, unknown, strict=True)
        return [assembled(self.bundle, row[:2], *row[2:], repeats) for row in rows]

    def similar_items(
        self,
        item: Any,
        k: int = 20,
        *,
        exclude: Iterable[Any] = (),
        allow: Iterable[Any] | None = None,
        filter: Filter | None = None,
    ) -> Recommendations:
        """The k items whose embeddings have the largest cosine with that of the external id `item`, itself left out.

        Conditions as in `recommend`. Raises UsageError where the catalog does not know the item.
        """
        k = checked_k(k, self.n_items)
        place = self.ids.lookup([item])
        if place[0] < 0:
            raise UsageError(f"similar_items: the catalog does not know item {item!r}; give one of its external ids")
        conditions = conditions_of(self.ids, exclude, allow, filter)
        dropped = place if conditions.excluded is None else np.union1d(conditions.excluded, place)
        row = retrieve(self.index, self.n_items, self.bundle.catalog[place], k, conditions.allowed, [dropped], 1.0)
        return assembled(self.bundle, (row[0][0], row[1][0]), place, [], False)

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """`recommend` on internal ids: (ids int32[B, k], scores float32[B, k]), padded with -1 / -inf.

        An empty session gets the popularity ranking. Raises DataError on an id outside the catalog.
        """
        sessions.check_ids(self.n_items, "sessions")
        width = checked_k(k, self.n_items)
        ids, scores = self._rank(sessions, width, EVERYTHING)
        if width == k:
            return ids, scores
        spare = ((0, 0), (0, k - width))
        return np.pad(ids, spare, constant_values=-1), np.pad(scores, spare, constant_values=-np.inf)

    def _rank(
        self, sessions: Sessions, k: int, conditions: Conditions, stages: dict[str, float] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32[B, k], scores float32[B, k]) of sessions of internal ids; `stages` gains the timings.

        Empty sessions get the popularity ranking.
        """
        if len(sessions) > _CHUNK_SESSIONS:
            cuts = range(0, len(sessions), _CHUNK_SESSIONS)
            ranked = [self._rank(sessions.slice(cut, cut + _CHUNK_SESSIONS), k, conditions) for cut in cuts]
            return np.concatenate([part[0] for part in ranked]), np.concatenate([part[1] for part in ranked])
        empty = sessions.offsets[1:] == sessions.offsets[:-1]
        if not empty.any() and len(sessions):
            return self._ranker.rank(sessions, k, conditions, stages)
        ids = np.empty((len(sessions), k), dtype=np.int32)
        scores = np.empty((len(sessions), k), dtype=np.float32)
        if empty.any():
            ids[empty], scores[empty] = most_popular(self.bundle, k, conditions)
        full = np.flatnonzero(~empty)
        if len(full):
            ids[full], scores[full] = self._ranker.rank(sessions.select(full), k, conditions, stages)
        return ids, scores

    def _lookup(self, session: Sequence[Any]) -> tuple[np.ndarray, list[Any]]:
        """A session's known clicks (int32[m]) and its unknown ones (external)."""
        found = self.ids.lookup(session)
        known = found >= 0
        if known.all():
            return found, []
        return found[known], [click for click, fine in zip(session, known, strict=True) if not fine]
