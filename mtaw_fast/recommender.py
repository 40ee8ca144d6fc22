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
from mtaw_fast.recommendations import Recommendations
from mtaw_fast.retrieval import Index, ladder_of, make_index
from mtaw_fast.sessions import Sessions, offsets_of

_CHUNK_SESSIONS = 1024
_LONG_LIST = 1000  # exclude lists up to here are fetched past and dropped; a mask costs O(N)
_NOTHING = np.empty(0, dtype=np.int32)


class Recommender:
    """Ranks the catalog for the next click of a session. Thread-safe: nothing changes after loading.

    Axes: B sessions, N items. Scores are scale * cosine; ties go to the lower internal id.
    """

    def __init__(self, bundle: Bundle, encoder: Encoder, index: Index) -> None:
        self.bundle = bundle
        self.encoder = encoder
        self.index = index
        # Most clicked first; the stable sort keeps equal counts in id order.
        self._popular = np.argsort(-bundle.popularity, kind="stable").astype(np.int32)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], encoder: str = "auto", index: str = "auto", verify: bool = True
    ) -> Recommender:
        """Load a bundle folder. encoder: auto, numpy, eager. index: auto, exact, flat, gpu, ladder
        (see `retrieval.make_index`).

        Raises BundleError on a damaged bundle, UsageError on an unknown name, MissingPackageError where
        the encoder or index needs a package that is not installed.
        """
        bundle = Bundle.load(folder, verify=verify)
        return cls(bundle, make_encoder(encoder, bundle), make_index(index, bundle.catalog, ladder_of(bundle)))

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
        allowed = None if allow is None else self._known("allow", allow)
        return Filter.of(self.n_items, self._known("exclude", exclude), allowed)

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
        clicks, unknown = self._lookup("session", session)
        allowed, excluded = self._conditions(exclude, allow, filter)
        looked_up = perf_counter_ns()
        packed = Sessions(clicks, np.array([0, len(clicks)], dtype=np.int64))
        stages: dict[str, float] = {"lookup": (looked_up - start) / 1000}
        ids, scores = self._rank(packed, self._checked_k(k), allowed, excluded, exclude_seen, stages)
        ranked = perf_counter_ns()
        answer = self._answer(clicks, ids[0], scores[0], unknown, repeats)
        if not timings:
            return answer
        end = perf_counter_ns()
        stages |= {"assemble": (end - ranked) / 1000, "total": (end - start) / 1000}
        return Recommendations(answer.items, answer.scores, answer.unknown, answer.fallback, stages, answer.repeats)

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
        k = self._checked_k(k)
        allowed, excluded = self._conditions(exclude, allow, filter)
        unknown: list[list[Any]]
        if isinstance(sessions, Sessions):
            packed, unknown = sessions, [[] for _ in range(len(sessions))]
            packed.check_ids(self.n_items, "sessions")
        else:
            pairs = [self._lookup(f"session {b}", one) for b, one in enumerate(_listed("sessions", sessions))]
            lengths = np.array([len(pair[0]) for pair in pairs], dtype=np.int64)
            packed = Sessions(np.concatenate([_NOTHING, *(pair[0] for pair in pairs)]), offsets_of(lengths))
            unknown = [pair[1] for pair in pairs]
        ids, scores = self._rank(packed, k, allowed, excluded, exclude_seen)
        return [self._answer(*row, repeats) for row in zip(packed, ids, scores, unknown, strict=True)]

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
        k = self._checked_k(k)
        place = self.ids.lookup([item])
        if place[0] < 0:
            raise UsageError(f"similar_items: the catalog does not know item {item!r}; give one of its external ids")
        allowed, excluded = self._conditions(exclude, allow, filter)
        ids, scores = self._retrieve(self.bundle.catalog[place], k, allowed, [np.union1d(excluded, place)], scale=1.0)
        return self._answer(_NOTHING, ids[0], scores[0], [], False, fallback=False)

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """`recommend` on internal ids: (ids int32[B, k], scores float32[B, k]), padded with -1 / -inf.

        An empty session gets the popularity ranking. Raises DataError on an id outside the catalog.
        """
        sessions.check_ids(self.n_items, "sessions")
        width = self._checked_k(k)
        ids, scores = self._rank(sessions, width, None, _NOTHING, False)
        if width == k:
            return ids, scores
        spare = ((0, 0), (0, k - width))
        return np.pad(ids, spare, constant_values=-1), np.pad(scores, spare, constant_values=-np.inf)

    def _rank(
        self,
        sessions: Sessions,
        k: int,
        allowed: Filter | None,
        excluded: np.ndarray,
        exclude_seen: bool,
        stages: dict[str, float] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32[B, k], scores float32[B, k]) of sessions of internal ids; `stages` gains the timings."""
        if len(sessions) > _CHUNK_SESSIONS:
            cuts = range(0, len(sessions), _CHUNK_SESSIONS)
            parts = [sessions.slice(cut, cut + _CHUNK_SESSIONS) for cut in cuts]
            ranked = [self._rank(part, k, allowed, excluded, exclude_seen) for part in parts]
            return np.concatenate([part[0] for part in ranked]), np.concatenate([part[1] for part in ranked])
        ids = np.empty((len(sessions), k), dtype=np.int32)
        scores = np.empty((len(sessions), k), dtype=np.float32)
        start = perf_counter_ns()
        empty = sessions.offsets[1:] == sessions.offsets[:-1]
        if empty.any():
            ids[empty], scores[empty] = self._most_popular(k, allowed, excluded)
        full = np.flatnonzero(~empty)
        encoded = start
        if len(full):
            if len(full) < len(sessions):
                sessions = sessions.select(full)
            queries = self.encoder.encode(sessions)
            encoded = perf_counter_ns()
            dropped = None
            if exclude_seen:
                dropped = [np.union1d(excluded, clicks) for clicks in sessions]
            elif len(excluded):
                dropped = [excluded] * len(sessions)
            ids[full], scores[full] = self._retrieve(queries, k, allowed, dropped, self.bundle.config.scale)
        if stages is not None:
            stages |= {"encode": (encoded - start) / 1000, "retrieve": (perf_counter_ns() - encoded) / 1000}
        return ids, scores

    def _retrieve(
        self, queries: np.ndarray, k: int, allowed: Filter | None, dropped: list[np.ndarray] | None, scale: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The index's top k of queries float32[B, d], less each query's own `dropped` ids (distinct, int[..]).

        The first k + n of an exact ranking hold the first k that remain after any n are dropped.
        """
        if dropped is None:
            return self.index.search(queries, k, allowed, scale=scale)
        ids = np.full((len(queries), k), -1, dtype=np.int32)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        # Rounded up to powers of two, so that one long list does not widen the search of every query.
        extra = np.array([1 << (len(ids) - 1).bit_length() if len(ids) else 0 for ids in dropped])
        for width in np.unique(extra):
            rows = np.flatnonzero(extra == width)
            fetch = min(k + int(width), self.n_items)
            found, values = self.index.search(queries[rows], fetch, allowed, scale=scale)
            for row, row_ids, row_values in zip(rows, found, values, strict=True):
                kept = np.flatnonzero(np.isin(row_ids, dropped[row], invert=True))[:k]
                ids[row, : len(kept)] = row_ids[kept]
                scores[row, : len(kept)] = row_values[kept]
        return ids, scores

    def _most_popular(self, k: int, allowed: Filter | None, excluded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The k most clicked items: ids int32[k] and click counts float32[k], padded with -1 / -inf."""
        order = self._popular
        if allowed is not None:
            order = order[allowed.mask[order]]
        if len(excluded):
            order = order[: k + len(excluded)]
            order = order[np.isin(order, excluded, invert=True)]
        order = order[:k]
        ids = np.full(k, -1, dtype=np.int32)
        scores = np.full(k, -np.inf, dtype=np.float32)
        ids[: len(order)] = order
        scores[: len(order)] = self.bundle.popularity[order]
        return ids, scores

    def _answer(
        self,
        clicks: np.ndarray,
        ids: np.ndarray,
        scores: np.ndarray,
        unknown: list[Any],
        repeats: bool,
        fallback: bool | None = None,
    ) -> Recommendations:
        """Wrap one row of a ranking, padding cut off."""
        count = int(np.count_nonzero(ids >= 0))
        return Recommendations(
            self.ids.external(ids[:count]),
            scores[:count].copy(),
            unknown,
            fallback=len(clicks) == 0 if fallback is None else fallback,
            repeats=np.isin(ids[:count], clicks) if repeats else None,
        )

    def _conditions(
        self, exclude: Iterable[Any], allow: Iterable[Any] | None, prepared: Filter | None
    ) -> tuple[Filter | None, np.ndarray]:
        """All conditions as one filter and a short list of internal ids to leave out besides."""
        excluded = self._known("exclude", exclude)
        if prepared is not None:
            if not isinstance(prepared, Filter):
                raise UsageError(f"filter must be made with filter(), not {type(prepared).__name__}; or pass allow=")
            prepared.check(self.n_items)
        if allow is None and len(excluded) <= _LONG_LIST:
            return prepared, excluded
        allowed = None if allow is None else self._known("allow", allow)
        own = Filter.of(self.n_items, excluded, allowed)
        return own if prepared is None else prepared & own, _NOTHING

    def _known(self, name: str, ids: Iterable[Any]) -> np.ndarray:
        """The distinct internal ids (int32) of those external `ids` that the catalog knows."""
        listed = _listed(name, ids)
        if not listed:
            return _NOTHING
        found = self.ids.lookup(listed)
        return np.unique(found[found >= 0])

    def _lookup(self, name: str, session: Iterable[Any]) -> tuple[np.ndarray, list[Any]]:
        """A session's known clicks (int32[m]) and its unknown ones (external)."""
        listed = _listed(name, session)
        found = self.ids.lookup(listed)
        known = found >= 0
        if known.all():
            return found, []
        return found[known], [click for click, fine in zip(listed, known, strict=True) if not fine]

    def _checked_k(self, k: int) -> int:
        """k, at most N. Raises UsageError where it is no positive whole number."""
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise UsageError(f"k must be a whole number of at least 1, not {k!r}")
        return min(int(k), self.n_items)


def _listed(name: str, ids: Any) -> Sequence[Any]:
    """`ids` as a list. Raises UsageError on a lone text or number: the usual slip."""
    if isinstance(ids, (list, tuple)):
        return ids
    try:
        if isinstance(ids, (str, bytes)):
            raise TypeError
        return list(ids)
    except TypeError:
        raise UsageError(f"{name} must be a list of item ids, not {ids!r}; write [{ids!r}] for a single one") from None
