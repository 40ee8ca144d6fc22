"""Build the ranker's dataset as serving would see it: rank each chunk of the last sessions, then learn it.

The candidates come from the objects that serve: the tables of the sessions before, and a `MemoryDelta` that learns the
last sessions chunk by chunk. So there are items of every age among the candidates, also new ones.

A bundle is also served without learning, and then what it knows is as old as its training. A ranker that reads times
must not trust that as if it were fresh, so it gets half as many *frozen* samples again: clicks of the last sessions at
their times, but ranked by the tables of the sessions before alone, or of their older part. If the last sessions span
less than a day, half of these are *paused* instead: a part of the last sessions is learned, as by a service to which no
clicks come any more, and later clicks are ranked. The ranker tells both from fresh ones by the decayed counts, which
fade.

Axes: T clicks of the sessions, H chunks, Q queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_query import SessionMemory
from mtaw_fast.kernels.native.trends import Trends
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.training.memory_tables import build_tables, build_trends
from mtaw_fast.training.progress import Reporter
from mtaw_fast.training.ranker.candidates import moment_of
from mtaw_fast.training.ranker.dataset import DatasetWriter, RankerDataset
from mtaw_fast.training.ranker.new_item_vectors import NewItemVectors
from mtaw_fast.training.ranker.side_inputs import NOTHING, SideInputs
from mtaw_fast.training.steps.batch import typed
from mtaw_fast.training.threads import current_threads

_FEW = 16  # queries that are not worth a second thread
_LEARNING_A_STALE = 2  # samples of tables that learn for each frozen or paused one
_PAUSED_AFTER = (0.25, 0.5, 0.75)  # of the last clicks are learned before paused samples
_DAY = 24 * 3_600_000  # ms
_STALE_CHUNK = 4096  # clicks learned and samples ranked at once, for frozen and paused samples


def build_dataset(
    config: Config,
    tables: MemoryTables,
    sessions: Sessions,
    min_prefix: int,
    weights: Mapping[str, np.ndarray] | None,
    folder: Path,
    phase: str,
    reporter: Reporter,
    since: int | None = None,
    trends: TrendTables | None = None,
    type_weights: np.ndarray | None = None,
    side: SideInputs = NOTHING,
    older: Sequence[Sessions] = (),
) -> RankerDataset:
    """Rank and learn every click of the last sessions.

    config: `prequential_chunk` and `prequential_seconds` limit a chunk. If there are more than `ranker_samples`
        queries, that many are ranked, evenly spread.
    tables: of the sessions before.
    sessions: the last sessions; in the order of their times if they have any.
    min_prefix: clicks of the shortest prefix that is ranked.
    weights: of an MTAW that was trained on the sessions before; None for a ranker without dense candidates.
    folder: for the features, 2 bytes each, in a file without a name, which goes with the dataset or the process.
    reporter: receives the clicks done.
    since: clicks up to this moment (ms) are learned but not ranked: the tables know later ones.
    trends: of the sessions before, for a ranker that reads trends; adds frozen and paused samples.
    type_weights: float32[K], weight of a query by the type of its target; those of weight 0 are not ranked.
    side: for features of context and content, with trends alone, and of the types of clicks.
    older: the first sessions before, by whose tables a part of the frozen samples is ranked.

    Raises TrainingError if no query has its target among its candidates, or the folder's disk is full.
    """
    chunk = config.ranker.prequential_chunk, round(config.ranker.prequential_seconds * 1000)
    order = ReplayOrder.of(sessions, *chunk)
    click_weights = None if type_weights is None else type_weights[typed(sessions)]
    ranked = _ranked_clicks(order, sessions, min_prefix, since, config.ranker.ranker_samples, click_weights)

    def run_by(
        known_tables: MemoryTables, known_trends: TrendTables | None, run_sessions: Sessions, chosen: np.ndarray
    ) -> _PrequentialRun:
        live_trends = None if known_trends is None else known_trends.live(tables.n_items)
        return _PrequentialRun(config, known_tables, run_sessions, weights, chosen, live_trends, side)

    def add_stale(
        writer: DatasetWriter, known_tables: MemoryTables, known_trends: TrendTables, limit: int, n_learned: int = 0
    ) -> None:
        learned = order.clicks[:n_learned]
        is_known = np.bincount(known_tables.session_items, minlength=tables.n_items) > 0
        is_known[sessions.items[learned]] = True
        is_left = is_known[sessions.items]  # serving drops clicks on items that it does not know
        left = np.flatnonzero(is_left)
        filtered = sessions.of_clicks(left)
        filtered_weights = None if click_weights is None else click_weights[left]
        begin = since
        if n_learned:
            assert order.moments is not None
            begin = int(order.moments[learned[-1]])
        filtered_order = ReplayOrder.of(filtered, *chunk)
        chosen = _ranked_clicks(filtered_order, filtered, min_prefix, begin, limit, filtered_weights)
        run = run_by(known_tables, known_trends, filtered, chosen)
        position = np.cumsum(is_left) - 1
        for clicks in _in_chunks(position[learned]):
            run.learn(clicks)
        for clicks in _in_chunks(chosen):
            run.rank(clicks, writer, left)

    with DatasetWriter.opened(folder, side.names(trends=trends is not None)) as writer:
        reporter.epoch_starts(f"{phase}, dataset", 1, 1, len(order.clicks))
        run = run_by(tables, trends, sessions, ranked)
        for clicks in np.split(order.clicks, order.bounds[1:-1]):
            run.rank(clicks, writer)
            run.learn(clicks)
            reporter.step_done(len(clicks), 0.0)
        del run  # with an index of its own
        if trends is not None:
            limit = stale_samples(len(ranked))
            assert order.moments is not None
            moments = order.moments[order.clicks]
            if moments[-1] - (moments[0] if since is None else since) < _DAY:
                limit //= 2
                for part in _PAUSED_AFTER:
                    n_learned = int(part * len(order.clicks))
                    if n_learned:
                        add_stale(writer, tables, trends, limit // len(_PAUSED_AFTER), n_learned)
            limit //= 1 + len(older)
            add_stale(writer, tables, trends, limit)
            for part_before in older:
                older_trends = build_trends(config, part_before, tables.n_items, side.context)
                assert older_trends is not None
                add_stale(writer, build_tables(config, part_before, tables.n_items), older_trends, limit)
        return writer.finish(click_weights)


def stale_samples(count: int) -> int:
    """Return how many frozen and paused samples a ranker that reads times gets at most, next to `count` others."""
    return count // _LEARNING_A_STALE


def _in_chunks(clicks: np.ndarray) -> list[np.ndarray]:
    return np.split(clicks, range(_STALE_CHUNK, len(clicks), _STALE_CHUNK))


def _ranked_clicks(
    order: ReplayOrder,
    sessions: Sessions,
    min_prefix: int,
    since: int | None,
    limit: int,
    weights: np.ndarray | None,
) -> np.ndarray:
    """int64[Q]: indices of the targets in the sessions' items, in replay order."""
    begins = np.repeat(sessions.offsets[:-1], sessions.lengths)
    clicks = order.clicks
    chosen = clicks - begins[clicks] >= min_prefix
    if weights is not None:
        chosen &= weights[clicks] > 0
    if since is not None and order.moments is not None:
        chosen &= order.moments[clicks] > since
    targets = clicks[chosen]
    return targets[evenly(len(targets), limit)]


class _PrequentialRun:
    """The state that serves, on its way through the sessions."""

    def __init__(
        self,
        config: Config,
        tables: MemoryTables,
        sessions: Sessions,
        weights: Mapping[str, np.ndarray] | None,
        ranked: np.ndarray,
        trends: Trends | None,
        side: SideInputs,
    ) -> None:
        self._items = np.ascontiguousarray(sessions.items)
        self._begin_of = np.repeat(sessions.offsets[:-1], sessions.lengths)
        self._handle_of = np.repeat(np.arange(len(sessions), dtype=np.int64), sessions.lengths)
        self._query_of = np.full(sessions.n_clicks, -1, dtype=np.int64)
        self._query_of[ranked] = np.arange(len(ranked))
        self._delta = MemoryDelta(tables.arrays(), tables.settings.native, capacity=0)
        query = query_settings(config, trends is not None)
        self._memory: SessionMemory = tables.queries(tables.n_items, query, delta=self._delta)
        self._trends, self._sessions, self._content = trends, sessions, side.content
        self._types, self._n_types = side.type_codes(sessions), len(side.types)
        self._threads = current_threads().pieces
        self._dense: NewItemVectors | None = None
        if weights is not None:
            known = np.bincount(tables.session_items, minlength=tables.n_items) > 0
            self._dense = NewItemVectors(
                config, weights, known, self._items, self._begin_of[ranked], ranked, self._threads
            )

    def rank(self, clicks: np.ndarray, writer: DatasetWriter, indices: np.ndarray | None = None) -> None:
        """Write the candidates for the targets among the clicks int64[n]. indices: int64[T], of the clicks among those
        whose weights the writer gets; None: as they are."""
        clicks = clicks[self._query_of[clicks] >= 0]
        if len(clicks) == 0:
            return
        begins = self._begin_of[clicks]
        dense = None if self._dense is None else self._dense.of(self._query_of[clicks])
        threads = self._threads if len(clicks) >= _FEW else 1
        moment = None
        if self._trends is not None:
            moment = moment_of(self._trends, self._sessions, clicks, content=self._content)
        ids, values = self._memory.features(
            self._items, begins, clicks, dense, threads=threads, moment=moment, types=self._types, n_types=self._n_types
        )
        target_indices = clicks if indices is None else indices[clicks]
        writer.add(target_indices, self._items[clicks], clicks - begins, ids, values)

    def learn(self, clicks: np.ndarray) -> None:
        """Learn the clicks int64[n], in order."""
        self._delta.click(self._handle_of[clicks], self._items[clicks])
        times, context = self._sessions.times, self._sessions.context
        if self._trends is not None and times is not None:
            codes = context[clicks] if context is not None and self._trends.n_context else None
            self._trends.click(self._handle_of[clicks], self._items[clicks], times[clicks], context=codes)
        if self._dense is not None:
            self._dense.learn(self._items[clicks], self._delta)


@dataclass(frozen=True, slots=True, eq=False)
class ReplayOrder:
    """The clicks of sessions in the order in which they came, cut into chunks.

    clicks: int64[T], indices in `Sessions.items`; clicks of one session keep their order. bounds: int64[H + 1], chunk h
    is clicks[bounds[h]:bounds[h + 1]]. moments: int64[T] or None, time of a click in milliseconds, by index in
    `Sessions.items`, never before its session's earlier ones.
    """

    clicks: np.ndarray
    bounds: np.ndarray
    moments: np.ndarray | None

    @classmethod
    def of(cls, sessions: Sessions, max_clicks: int, max_ms: int) -> ReplayOrder:
        """Order by time, or session by session without times.

        sessions: in order of their ends. max_clicks: of a chunk. Without times a chunk continues to the end of its last
        session. max_ms: milliseconds that a chunk spans, with times.
        """
        if sessions.times is None:
            clicks = np.arange(sessions.n_clicks, dtype=np.int64)
            return cls(clicks, _by_session(sessions.offsets, max_clicks), None)
        moments = _rising(sessions.times, sessions.offsets)
        order = np.argsort(moments, kind="stable").astype(np.int64)
        return cls(order, _by_time(moments[order], max_clicks, max_ms), moments)


def evenly(count: int, limit: int) -> np.ndarray:
    """bool[count]: `limit` of them, spread evenly; all if there are no more."""
    n_chosen = np.arange(count + 1, dtype=np.int64) * min(count, limit) // max(count, 1)
    return n_chosen[1:] > n_chosen[:-1]


def _rising(times: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """int64[T]: each session's times, raised so that none is below the one before."""
    starts = np.zeros(len(times), dtype=bool)
    starts[offsets[:-1][offsets[:-1] < len(times)]] = True
    falls = np.flatnonzero((times[1:] < times[:-1]) & ~starts[1:]) + 1
    if len(falls) == 0:
        return times
    risen = times.copy()
    for session in np.unique(np.searchsorted(offsets, falls, side="right") - 1).tolist():
        clicks = slice(offsets[session], offsets[session + 1])
        risen[clicks] = np.maximum.accumulate(times[clicks])
    return risen


def _by_session(offsets: np.ndarray, max_clicks: int) -> np.ndarray:
    bounds = [0]
    while bounds[-1] < offsets[-1]:
        bounds.append(int(offsets[np.searchsorted(offsets, min(bounds[-1] + max_clicks, int(offsets[-1])))]))
    return np.array(bounds, dtype=np.int64)


def _by_time(moments: np.ndarray, max_clicks: int, max_ms: int) -> np.ndarray:
    bounds = [0]
    while (begin := bounds[-1]) < len(moments):
        end = int(np.searchsorted(moments, moments[begin] + max_ms))
        bounds.append(min(end, begin + max_clicks, len(moments)))
    return np.array(bounds, dtype=np.int64)
