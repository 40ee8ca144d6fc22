"""One state of everything that ranks, and every way to query it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter_ns
from typing import Any, Literal

import numpy as np

from mtaw_fast.data.item_ids import refuse_other_type
from mtaw_fast.data.ranked_lists import padded_lists, padded_to
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.items import ItemTable
from mtaw_fast.ranking.answer import Recommendations, Times, assembled
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.encoders import Encoder
from mtaw_fast.ranking.exploring import Impressions, with_explored
from mtaw_fast.ranking.options import EVERYTHING, Conditions, Options
from mtaw_fast.ranking.ranker import EncodedClicks, Ranker
from mtaw_fast.ranking.retrieval import Index
from mtaw_fast.ranking.retrieval.ann_plan import LARGEST_K
from mtaw_fast.ranking.retrieval.segmented_index import SegmentedIndex
from mtaw_fast.ranking.ruled_ranking import ruled_answer, ruled_rows, shown_pins, with_effects, with_filter

_CHUNK_SESSIONS = 1024
_NO_CLICKS = np.empty(0, dtype=np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """An immutable snapshot: a catalog, an index of it, and the ranker over both. A call ends on that it began with."""

    catalog: Catalog
    index: Index
    ranker: Ranker
    impressions: Impressions = field(default_factory=Impressions)

    @classmethod
    def of(
        cls,
        catalog: Catalog,
        encoder: Encoder,
        index: Index,
        before: Pipeline | None = None,
        impressions: Impressions | None = None,
    ) -> Pipeline:
        """Make the pipeline of a catalog from its model's own encoder and index.

        before: the pipeline of an earlier state of the same model's catalog; parts that did not change are reused.
        """
        if catalog.model.trends is not None and (catalog.trends is None or catalog.trends.capacity < catalog.size):
            catalog = replace(catalog, trends=catalog.model.trends.live(catalog.roomy_size))
        searched = index
        if catalog.is_updated:
            searched = SegmentedIndex(index, catalog.model.n_items, catalog.vectors, catalog.unavailable)
        if impressions is None:
            impressions = Impressions() if before is None else before.impressions
        ranker = Ranker(catalog, encoder, index, searched, None if before is None else before.ranker)
        return cls(catalog, searched, ranker, impressions)

    def recommend(
        self, session: Sequence[Any], options: Options, log_position: str | None = None
    ) -> tuple[Recommendations, Times | None]:
        """Return the answer to a session of external ids, and the times of its stages (None if no click is known).

        log_position: stored in the answer.
        """
        if options.explore is not None:
            answer, times = self.recommend(session, options._replace(explore=None), log_position)
            clicks, _, options = options.of_known(self.catalog, session)
            return self._explored(answer, _single(clicks, options), options), times
        if options.rules is not None:
            hides_pins = options.conditions.exclude_seen and options.rules.pins
            if not options.rules.current and not hides_pins:
                return self._ruled(session, [], options, log_position)
            start = perf_counter_ns()
            clicks, unknown, options = options.of_known(self.catalog, session)
            return self._ruled(clicks, unknown, options, log_position, (perf_counter_ns() - start) / 1000)
        items, scores, unknown, repeats, times, _ = self.ranker.recommend(session, options)
        if items is None:
            return self._fallback(unknown, options, log_position), None
        answer = Recommendations(items, scores, unknown, False, None, repeats, None, log_position)
        clicks = self.catalog.clicks_of(session)[0] if options.reasons else _NO_CLICKS
        return self._described(answer, clicks, options), times

    def recommend_growing(
        self,
        clicks: np.ndarray,
        unknown: list[Any],
        state: EncodedClicks | None,
        options: Options,
        log_position: str | None = None,
    ) -> tuple[Recommendations, Times | None, EncodedClicks | None]:
        """Return what `recommend` does for a growing session, and its next state; see `Ranker.recommend_growing`.

        clicks: int32[m], the internal ids of all known clicks so far, of which the options have the types, if these are
        known. unknown: the other clicks.
        """
        if options.explore is not None:
            plain = options._replace(explore=None)
            answer, times, state = self.recommend_growing(clicks, unknown, state, plain, log_position)
            return self._explored(answer, _single(clicks, options), options), times, state
        if options.rules is not None:  # it encodes the session again
            return *self._ruled(clicks, unknown, options, log_position), state
        if not len(clicks):
            return self._fallback(unknown, options, log_position), None, state
        (items, scores, _, repeats, times, _), state = self.ranker.recommend_growing(clicks, state, options)
        answer = Recommendations(items, scores, unknown, False, None, repeats, None, log_position)
        return self._described(answer, clicks, options), times, state

    def recommend_batch(
        self, sessions: Sessions, unknown: Sequence[list[Any]], options: Options, log_position: str | None = None
    ) -> list[Recommendations]:
        """Return the answers to sessions of internal ids; `unknown` has each session's unknown clicks."""
        for number in np.flatnonzero(sessions.lengths == 0).tolist():
            refuse_other_type(self.catalog.ids.kind, unknown[number], f"session {number}")
        if options.explore is not None:
            plain_answers = self.recommend_batch(sessions, unknown, options._replace(explore=None), log_position)
            return [
                self._explored(answer, sessions.slice(position, position + 1), options)
                for position, answer in enumerate(plain_answers)
            ]
        if options.rules is not None:
            answers = self._ruled_answers(sessions, list(sessions), unknown, options)
        else:
            ids, scores = self.rank(sessions, options.k, options.conditions)
            answers = [
                self._described(assembled(self.catalog, row[:2], *row[2:], options.repeats), row[2], options)
                for row in zip(ids, scores, sessions, unknown, strict=True)
            ]
        return answers if log_position is None else [replace(answer, log_position=log_position) for answer in answers]

    def rank(self, sessions: Sessions, k: int, conditions: Conditions = EVERYTHING) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int32[B, k], scores float32[B, k]) of sessions of internal ids, padded with -1 / -inf; k >= 1.

        Empty sessions get the popularity ranking. Raises DataError on an id outside the catalog.
        """
        sessions.check_ids(self.catalog.size, "sessions")
        width = max(1, min(k, self.catalog.n_items))
        if len(sessions) <= _CHUNK_SESSIONS:
            ranked = self._rank(sessions, width, conditions)
        else:
            cuts = range(0, len(sessions), _CHUNK_SESSIONS)
            parts = [self._rank(sessions.slice(cut, cut + _CHUNK_SESSIONS), width, conditions) for cut in cuts]
            ranked = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        return ranked if width == k else padded_to(k, *ranked)

    def _rank(self, sessions: Sessions, k: int, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
        empty = sessions.offsets[1:] == sessions.offsets[:-1]
        if not empty.any() and len(sessions):
            return self.ranker.rank(sessions, k, conditions)
        ids, scores = padded_lists(len(sessions), k)
        if empty.any():
            ids[empty], scores[empty] = self.ranker.popular(k, conditions)
        filled = np.flatnonzero(~empty)
        if len(filled):
            ids[filled], scores[filled] = self.ranker.rank(sessions.select(filled), k, conditions)
        return ids, scores

    def similar(self, item: int, by: Literal["vectors", "sessions"], options: Options) -> Recommendations:
        """Return the items most similar to `item`, an internal id, with their cosines; see `Recommender.similar_items`.

        by 'sessions' needs a model with a memory.
        """
        catalog, (k, conditions, *_) = self.catalog, options
        own_items = np.array([item], dtype=np.int32)
        excluded = own_items if conditions.excluded is None else np.union1d(conditions.excluded, own_items)
        conditions = conditions._replace(excluded=excluded)
        if options.rules is None:
            row = self.ranker.similar(item, by, k, conditions)
            return self._described(assembled(catalog, row, own_items, [], False), own_items, options)

        def rank(_: np.ndarray, depth: int, allowed: Conditions) -> tuple[np.ndarray, np.ndarray]:
            ids, scores = self.ranker.similar(item, by, depth, allowed)
            return ids[None], scores[None]

        approximate = LARGEST_K if by == "vectors" and self.index.name == "ann" else 0
        ruled_row = ruled_rows(catalog, options.rules, [own_items], k, conditions, rank, approximate)[0]
        return self._described(ruled_answer(catalog, ruled_row, own_items, [], options), own_items, options)

    def _ruled(
        self,
        session: Sequence[Any] | np.ndarray,
        unknown: list[Any],
        options: Options,
        log_position: str | None,
        lookup: float = 0.0,
    ) -> tuple[Recommendations, Times | None]:
        """Return the answer under rules to a session, and its times.

        session: the known clicks int32[m], found in `lookup` us, whose other clicks are `unknown`; or a whole session
        of external ids, if nothing but the ranking depends on the clicks.
        """
        catalog, (k, conditions, *_) = self.catalog, options
        assert options.rules is not None
        clicks = session if isinstance(session, np.ndarray) else _NO_CLICKS
        applied = catalog.bound_rules.bound(options.rules, int(clicks[-1]) if len(clicks) else None)
        allowed = applied.filter if conditions.allowed is None else with_filter(conditions, applied).allowed
        pins, approximate = shown_pins(applied, conditions, clicks), LARGEST_K if self.index.name == "ann" else 0
        items, scores, others, repeats, times, effects = self.ranker.recommend_ruled(
            session, options, allowed, applied, pins, catalog.n_items, approximate
        )
        unknown = unknown + others
        if items is None:
            refuse_other_type(catalog.ids.kind, unknown)
            options = options._replace(types=None)
            answer = self._ruled_answers(_single(_NO_CLICKS, options), [_NO_CLICKS], [unknown], options)[0]
            return replace(answer, log_position=log_position), None
        boosts, pinned, ran_out = effects
        short: Literal["rules", "candidates"] | None = None
        if len(items) < k:
            short = "candidates" if ran_out else "rules"
        answer = Recommendations(items, scores, unknown, False, None, repeats, None, log_position, short=short)
        if options.reasons and not len(clicks):
            clicks = catalog.clicks_of(list(session))[0]
        answer = self._described(answer, clicks, options)
        if answer.reasons is not None:
            answer = replace(answer, reasons=with_effects(answer.reasons, boosts, pinned))
        return answer, (times[0] + lookup, *times[1:])

    def _ruled_answers(
        self,
        sessions: Sessions,
        clicks: list[np.ndarray],
        unknown: Sequence[list[Any]],
        options: Options,
    ) -> list[Recommendations]:
        """Return the answers under rules to sessions of internal ids, whose clicks are also given one by one."""
        assert options.rules is not None

        def rank(rows: np.ndarray, depth: int, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
            part = sessions if len(rows) == len(sessions) else sessions.select(rows)
            return self.rank(part, depth, conditions)

        approximate = LARGEST_K if self.index.name == "ann" else 0
        rows = ruled_rows(self.catalog, options.rules, clicks, options.k, options.conditions, rank, approximate)
        answers = []
        for row, own_clicks, unknown_ids in zip(rows, clicks, unknown, strict=True):
            answer = self._described(
                ruled_answer(self.catalog, row, own_clicks, unknown_ids, options), own_clicks, options
            )
            if answer.reasons is not None:
                answer = replace(answer, reasons=with_effects(answer.reasons, row[0].boosts, row[0].pinned))
            answers.append(answer)
        return answers

    def _fallback(self, unknown: list[Any], options: Options, log_position: str | None) -> Recommendations:
        """Return the popularity ranking, after unknown clicks. Raises ItemTypeError if all are of another type."""
        refuse_other_type(self.catalog.ids.kind, unknown)
        row = self.ranker.popular(options.k, options.conditions)
        answer = assembled(self.catalog, row, _NO_CLICKS, unknown, options.repeats)
        return self._described(replace(answer, log_position=log_position), _NO_CLICKS, options)

    def _explored(self, answer: Recommendations, session: Sessions, options: Options) -> Recommendations:
        """Return the answer to a session of known clicks, with a share of its positions given to seldom shown items."""

        def rank(k: int, conditions: Conditions) -> np.ndarray:
            ids = self.rank(session, k, conditions)[0][0]
            return ids[ids >= 0]

        if session.times is not None and len(session.times):  # the moment that it is ranked at, whatever `at` is
            options = options._replace(conditions=options.conditions._replace(at=int(session.times[-1])))
        return with_explored(self.catalog, self.impressions, answer, session.items, options, rank, self.ranker.reasons)

    def _described(self, answer: Recommendations, clicks: np.ndarray, options: Options) -> Recommendations:
        """Return an answer to the known clicks int32[m] with the reasons and the fields that the options ask for."""
        explains = options.reasons and len(clicks) > 0
        if not explains and not options.fields:
            return answer
        items = self.catalog.ids.lookup(answer.items)
        if explains:
            answer = replace(answer, reasons=self.ranker.reasons(clicks, items))
        if options.fields:
            answer = replace(answer, fields=(self.catalog.items or ItemTable(0)).values_at(options.fields, items))
        return answer


def _single(clicks: np.ndarray, options: Options) -> Sessions:
    """Return the known clicks int32[m], of which the options have the types, as one session."""
    return Sessions(clicks, np.array([0, len(clicks)], dtype=np.int64), None, options.types)
