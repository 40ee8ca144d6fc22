"""One state of everything that ranks, and every way to query it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter_ns
from typing import Any, Literal

import numpy as np

from mtaw_fast.data.item_ids import refuse_other_type
from mtaw_fast.data.ranked_lists import padded_to
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.items import ItemTable
from mtaw_fast.ranking.answer import Recommendations, Times
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.encoders import Encoder
from mtaw_fast.ranking.exploring import Impressions, with_explored
from mtaw_fast.ranking.options import EVERYTHING, Conditions, Options
from mtaw_fast.ranking.ranker import EncodedClicks, Ranked, Ranker, Row
from mtaw_fast.ranking.retrieval import Index
from mtaw_fast.ranking.retrieval.segmented_index import SegmentedIndex
from mtaw_fast.rules import AppliedRules

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
            known, _, options = options.of_known(self.catalog, session)
            return self._explored(answer, _single(known, options), options), times
        clicks: np.ndarray | None = None  # looked up only where something needs them
        unknown, lookup = list[Any](), 0.0
        if options.rules is not None and options.rules.current:
            start = perf_counter_ns()
            clicks, unknown, options = options.of_known(self.catalog, session)
            lookup = (perf_counter_ns() - start) / 1000
        ranked = self.ranker.recommend(session if clicks is None else clicks, options, self._applied(options, clicks))
        unknown += ranked[2]
        if ranked[0] is None:
            return self._fallback(unknown, options, log_position), None
        if options.reasons and clicks is None:
            clicks = self.catalog.clicks_of(session)[0]
        times = ranked[4]
        return self._answer(ranked, clicks, unknown, options, log_position), (times[0] + lookup, *times[1:])

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
        if not len(clicks):
            return self._fallback(unknown, options, log_position), None, state
        if options.rules is not None:  # it encodes the session again
            ranked = self.ranker.recommend(clicks, options, self._applied(options, clicks))
        else:
            ranked, state = self.ranker.recommend_growing(clicks, state, options)
        return self._answer(ranked, clicks, unknown, options, log_position), ranked[4], state

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
            rows = self._ruled_rows(sessions, options)
        else:
            rows = [(*row, None) for row in zip(*self.rank(sessions, options.k, options.conditions), strict=True)]
        return [
            self._answer_of_row(row, clicks, own_unknown, options, log_position)
            for row, clicks, own_unknown in zip(rows, sessions, unknown, strict=True)
        ]

    def rank(self, sessions: Sessions, k: int, conditions: Conditions = EVERYTHING) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int32[B, k], scores float32[B, k]) of sessions of internal ids, padded with -1 / -inf; k >= 1.

        Empty sessions get the popularity ranking. Raises DataError on an id outside the catalog.
        """
        sessions.check_ids(self.catalog.size, "sessions")
        width = max(1, min(k, self.catalog.n_items))
        ranked = self.ranker.rank(sessions, width, conditions)
        return ranked if width == k else padded_to(k, *ranked)

    def similar(self, item: int, by: Literal["vectors", "sessions"], options: Options) -> Recommendations:
        """Return the items most similar to `item`, an internal id, with their cosines; see `Recommender.similar_items`.

        by 'sessions' needs a model with a memory.
        """
        k, conditions = options[:2]
        own_items = np.array([item], dtype=np.int32)
        excluded = own_items if conditions.excluded is None else np.union1d(conditions.excluded, own_items)
        conditions, applied = conditions._replace(excluded=excluded), self._applied(options, own_items)
        return self._answer_of_row(self.ranker.similar(item, by, k, conditions, applied), own_items, [], options)

    def _applied(self, options: Options, clicks: np.ndarray | None) -> AppliedRules | None:
        """Return the rules of a call after the known clicks int32[m]; None without rules."""
        if options.rules is None:
            return None
        return self.catalog.bound_rules.bound(
            options.rules, None if clicks is None or not len(clicks) else int(clicks[-1])
        )

    def _ruled_rows(self, sessions: Sessions, options: Options) -> list[Row]:
        """Rank sessions of internal ids under rules: those together for which the rules mean the same."""
        groups: dict[int, tuple[AppliedRules, list[int]]] = {}
        for number, clicks in enumerate(sessions):
            applied = self._applied(options, clicks)
            assert applied is not None
            groups.setdefault(id(applied), (applied, []))[1].append(number)
        rows: dict[int, Row] = {}
        for applied, numbers in groups.values():
            part = sessions if len(numbers) == len(sessions) else sessions.select(np.array(numbers))
            rows.update(zip(numbers, self.ranker.rank_ruled(part, options.k, options.conditions, applied), strict=True))
        return [rows[number] for number in range(len(sessions))]

    def _fallback(self, unknown: list[Any], options: Options, log_position: str | None) -> Recommendations:
        """Return the popularity ranking, after unknown clicks. Raises ItemTypeError if all are of another type."""
        refuse_other_type(self.catalog.ids.kind, unknown)
        row = self.ranker.popular(options.k, options.conditions, self._applied(options, None))
        return self._answer_of_row(row, _NO_CLICKS, unknown, options, log_position)

    def _answer_of_row(
        self, row: Row, clicks: np.ndarray, unknown: list[Any], options: Options, log_position: str | None = None
    ) -> Recommendations:
        """Return the answer to the known clicks int32[m]; without any, the row is the popularity ranking."""
        ids, scores, effects = row
        count = int(np.count_nonzero(ids >= 0))
        ids, scores = ids[:count], scores[:count].copy()
        repeats = np.isin(ids, clicks) if options.repeats else None
        ranked = self.catalog.ids.external(ids), scores, unknown, repeats, None, effects
        return self._answer(ranked, clicks, unknown, options, log_position)

    def _answer(
        self,
        ranked: Ranked,
        clicks: np.ndarray | None,
        unknown: list[Any],
        options: Options,
        log_position: str | None,
    ) -> Recommendations:
        """Return the answer to the known clicks int32[m], which only its reasons need, and whether it has any."""
        items, scores, _, repeats, _, effects = ranked
        fallback = clicks is not None and not len(clicks)
        answer = Recommendations(items, scores, unknown, fallback, None, repeats, None, log_position)
        if effects is not None and len(items) < options.k:
            answer.short = "candidates" if effects[2] else "rules"
        explains = options.reasons and not fallback
        if explains or options.fields:
            internal_ids = self.catalog.ids.lookup(items)
            if explains:
                assert clicks is not None
                answer.reasons = self.ranker.reasons(np.ascontiguousarray(clicks), internal_ids, effects)
            if options.fields:
                answer.fields = (self.catalog.items or ItemTable(0)).values_at(options.fields, internal_ids)
        return answer

    def _explored(self, answer: Recommendations, session: Sessions, options: Options) -> Recommendations:
        """Return the answer to a session of known clicks, with a share of its positions given to new items."""

        def rank(k: int, conditions: Conditions) -> np.ndarray:
            ids = self.rank(session, k, conditions)[0][0]
            return ids[ids >= 0]

        if session.times is not None and len(session.times):  # the moment that it is ranked at, whatever `at` is
            options = options._replace(conditions=options.conditions._replace(at=int(session.times[-1])))
        return with_explored(self.catalog, self.impressions, answer, session.items, options, rank, self.ranker.reasons)


def _single(clicks: np.ndarray, options: Options) -> Sessions:
    """Return the known clicks int32[m], of which the options have the types, as one session."""
    return Sessions(clicks, np.array([0, len(clicks)], dtype=np.int64), None, options.types)
