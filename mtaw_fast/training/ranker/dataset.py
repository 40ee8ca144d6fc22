"""The ranker's ranker_dataset as serving will put them: the slice is gone through in order, asked before it is learned.

What answers are the very objects that serve: the tables of the sessions before the slice and a `MemoryDelta` that
learns the slice chunk by chunk. So there are items of every age among the candidates, and such without a past.

Axes: Q ranker_dataset, C candidates of one at most, R candidates in all, F features.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.errors import TrainingError
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_query import Dense, SessionMemory, feature_names
from mtaw_fast.kernels.native.trends import Trends
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.ranking.memory_stage import moment_of
from mtaw_fast.training.encoder.batch import typed
from mtaw_fast.training.plan.threads import current_threads
from mtaw_fast.training.ranker.feature_file import FeatureFile
from mtaw_fast.training.ranker.fitting import drawn_places, nothing_to_learn
from mtaw_fast.training.ranker.new_item_vectors import NewItemVectors
from mtaw_fast.training.ranker.replay_order import ReplayOrder, evenly
from mtaw_fast.training.reporting import Reporter

_MOST = float(np.finfo(np.float16).max)
_FEW = 16  # queries that are not worth a second thread


@dataclass(frozen=True, slots=True, eq=False)
class RankerDataset:
    """`memory_ranker.Candidates` that were made once and are kept in a file.

    Attributes
    ----------
    features : tuple of str
        The F columns.
    targets : int32[Q]
        Next clicks; every one is among its candidates.
    lengths : int64[Q]
        Clicks of the prefixes.
    left_out : int
        Queries whose target was none of their candidates.
    weights : float32[Q] or None
        What they count by the type of their target; None where all count the same.
    """

    features: tuple[str, ...]
    targets: np.ndarray
    lengths: np.ndarray
    left_out: int
    weights: np.ndarray | None
    _begins: np.ndarray
    _counts: np.ndarray
    _ids: np.ndarray
    _file: FeatureFile

    def batch(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `memory_ranker.Candidates`."""
        return self._read(*self._padded(queries))

    def drawn(self, queries: np.ndarray, negatives: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """See `memory_ranker.DrawnCandidates`."""
        ids, places = self._padded(queries)
        kept = drawn_places(ids, ids == self.targets[queries, None], negatives, rng)
        if kept is not None:
            ids, places = np.take_along_axis(ids, kept, axis=1), np.take_along_axis(places, kept, axis=1)
        return self._read(ids, places)

    def some(self, chosen: np.ndarray) -> RankerDataset:
        """The ranker_dataset int64[q] alone, from the same file."""
        return replace(
            self,
            targets=self.targets[chosen],
            lengths=self.lengths[chosen],
            weights=None if self.weights is None else self.weights[chosen],
            _begins=self._begins[chosen],
            _counts=self._counts[chosen],
        )

    def _padded(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32[q, C], places int64[q, C] among the R candidates) of queries int64[q], -1 behind."""
        counts = self._counts[queries]
        column = np.arange(counts.max())
        there = column < counts[:, None]
        places = np.where(there, self._begins[queries][:, None] + column, -1)
        ids = np.full(there.shape, -1, dtype=np.int32)
        ids[there] = self._ids[places[there]]
        return ids, places

    def _read(self, ids: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = np.zeros((*ids.shape, len(self.features)), dtype=np.float32)
        there = ids >= 0
        values[there] = self._file.rows(places[there])
        return ids, values


def go_through(
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
) -> RankerDataset:
    """Ask and learn every click of the slice.

    Parameters
    ----------
    config : Config
        `lesson_clicks` and `lesson_seconds` are the most that is asked before it is learned; of more than
        `ranker_samples` queries so many, spread evenly, are asked.
    tables : MemoryTables
        Of the sessions before the slice.
    sessions : Sessions
        The slice; gone through by its times where it has any.
    min_prefix : int
        Clicks of the shortest prefix that is asked.
    weights : mapping of str to array, or None
        Of an MTAW that was trained on the sessions before the slice; None where the ranker is to do without.
    folder : Path
        For the features: 2 bytes each, in a file without a name, which goes with the ranker_dataset or with the process.
    phase : str
        For the reporter.
    reporter : Reporter
        LossStats of clicks gone through.
    since : int, optional
        Clicks up to this moment (ms) are learned but not asked: the tables know of later ones.
    trends : TrendTables, optional
        Of the sessions before the slice, where the ranker is to read them.
    type_weights : float32[K], optional
        What queries count by the type of their target; those that count 0 are not asked.

    Returns
    -------
    RankerDataset

    Raises
    ------
    TrainingError
        Where no query has its target among its candidates, or the folder's disk is full.
    """
    order_of_replay = ReplayOrder.of(
        sessions, config.ranker.prequential_chunk, round(config.ranker.prequential_seconds * 1000)
    )
    weights_of = None if type_weights is None else type_weights[typed(sessions)]
    asked = _asked(order_of_replay, sessions, min_prefix, since, config.ranker.ranker_samples, weights_of)
    walk = _PrequentialRun(
        config, tables, sessions, weights, asked, None if trends is None else trends.live(tables.n_items)
    )
    with _dataset_writer(folder, feature_names(trends is not None)) as notes:
        reporter.epoch_starts(f"{phase}, ranker_dataset", 1, 1, len(order_of_replay.clicks))
        for clicks in np.split(order_of_replay.clicks, order_of_replay.bounds[1:-1]):
            walk.ask(clicks, notes)
            walk.learn(clicks)
            reporter.step_done(len(clicks), 0.0)
        return notes.ranker_dataset(weights_of)


def _asked(
    order_of_replay: ReplayOrder,
    sessions: Sessions,
    min_prefix: int,
    since: int | None,
    most: int,
    weights: np.ndarray | None,
) -> np.ndarray:
    """int64[Q]: places in the sessions' items of the next clicks that are asked for, in the order_of_replay's order."""
    begins = np.repeat(sessions.offsets[:-1], sessions.lengths)
    clicks = order_of_replay.clicks
    fine = clicks - begins[clicks] >= min_prefix
    if weights is not None:
        fine &= weights[clicks] > 0
    if since is not None and order_of_replay.moments is not None:
        fine &= order_of_replay.moments[clicks] > since
    found = clicks[fine]
    return found[evenly(len(found), most)]


class _PrequentialRun:
    """The state that serves, on its way through the slice."""

    def __init__(
        self,
        config: Config,
        tables: MemoryTables,
        sessions: Sessions,
        weights: Mapping[str, np.ndarray] | None,
        asked: np.ndarray,
        trends: Trends | None,
    ) -> None:
        settings = tables.settings
        assert settings.recency is not None
        self._items = np.ascontiguousarray(sessions.items)
        self._begin_of = np.repeat(sessions.offsets[:-1], sessions.lengths)
        self._handle_of = np.repeat(np.arange(len(sessions), dtype=np.int64), sessions.lengths)
        self._query_of = np.full(sessions.n_clicks, -1, dtype=np.int64)
        self._query_of[asked] = np.arange(len(asked))
        self._delta = MemoryDelta(
            tables.arrays(),
            window=settings.window,
            span=settings.span,
            recency=settings.recency,
            max_neighbors=settings.max_neighbors,
            max_postings=settings.max_postings,
            capacity=0,
        )
        few = query_settings(config, trends is not None)
        self._memory: SessionMemory = tables.queries(tables.n_items, few, delta=self._delta)
        self._trends, self._times = trends, sessions.times
        self._threads = current_threads().pieces
        self._dense = None
        if weights is not None:
            known = np.bincount(tables.session_items, minlength=tables.n_items) > 0
            self._dense = NewItemVectors(
                config, weights, known, self._items, self._begin_of[asked], asked, self._threads
            )

    def ask(self, clicks: np.ndarray, notes: _DatasetWriter) -> None:
        """Note the candidates of those of the next clicks int64[n] that are asked for."""
        clicks = clicks[self._query_of[clicks] >= 0]
        if len(clicks) == 0:
            return
        begins = self._begin_of[clicks]
        dense: Dense | None = None if self._dense is None else self._dense.of(self._query_of[clicks])
        threads = self._threads if len(clicks) >= _FEW else 1
        moment = None if self._trends is None else moment_of(self._trends, self._times, clicks)
        ids, values = self._memory.features(self._items, begins, clicks, dense, threads=threads, moment=moment)
        notes.add(clicks, self._items[clicks], clicks - begins, ids, values)

    def learn(self, clicks: np.ndarray) -> None:
        """Learn the clicks int64[n], in order."""
        self._delta.click(self._handle_of[clicks], self._items[clicks])
        if self._trends is not None and self._times is not None:
            self._trends.click(self._handle_of[clicks], self._items[clicks], self._times[clicks])
        if self._dense is not None:
            self._dense.learn(self._items[clicks], self._delta)


class _DatasetWriter:
    """Gathers ranker_dataset: features in a file, all else in memory."""

    def __init__(self, file: IO[bytes], features: tuple[str, ...]) -> None:
        self._file, self._features = file, features
        self._clicks: list[np.ndarray] = []
        self._targets: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._counts: list[np.ndarray] = []
        self._ids: list[np.ndarray] = []
        self._left_out = 0

    def add(
        self, clicks: np.ndarray, targets: np.ndarray, lengths: np.ndarray, ids: np.ndarray, values: np.ndarray
    ) -> None:
        """Keep those of q queries, for the next clicks at the places int64[q], that have their targets int32[q] among
        the candidates int32[q, C], padded with -1."""
        fine = (ids == targets[:, None]).any(axis=1)
        self._left_out += int(np.count_nonzero(~fine))
        there = (ids >= 0) & fine[:, None]
        self._file.write(np.clip(values[there], -_MOST, _MOST).astype(np.float16).data)
        self._clicks.append(clicks[fine])
        self._targets.append(targets[fine])
        self._lengths.append(lengths[fine])
        self._counts.append(there.sum(axis=1)[fine])
        self._ids.append(ids[there])

    def ranker_dataset(self, weights: np.ndarray | None) -> RankerDataset:
        """What was gathered. weights: float32[T], what a query counts by the place of its next click, or None."""
        if not any(len(targets) for targets in self._targets):
            raise nothing_to_learn(self._left_out)
        self._file.flush()
        features = self._features
        counts = np.concatenate(self._counts)
        return RankerDataset(
            features,
            np.concatenate(self._targets),
            np.concatenate(self._lengths),
            self._left_out,
            None if weights is None else weights[np.concatenate(self._clicks)],
            offsets_of(counts)[:-1],
            counts,
            np.concatenate(self._ids),
            FeatureFile(self._file, len(features)),
        )


@contextlib.contextmanager
def _dataset_writer(folder: Path, features: tuple[str, ...]) -> Iterator[_DatasetWriter]:
    """A notebook in a file without a name. Raises TrainingError where the disk does not take it."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            yield _DatasetWriter(file, features)
    except OSError as error:
        raise TrainingError(
            f"cannot keep the ranker's ranker_dataset in {folder}: {error.strerror}; free space or set ranker_samples lower"
        ) from None
