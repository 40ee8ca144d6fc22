"""The ranker's slice: the last sessions, seen by tables and vectors that know only what came before.

Axes: Q prefixes of the slice, D dense items of each, C candidates, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions, offsets_of, ranges
from mtaw_fast.kernels.native.memory_query import Dense, feature_names
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.memory.bounded import pass_bytes
from mtaw_fast.memory.settings import memory_settings, query_settings
from mtaw_fast.memory.trends import TrendTables, trend_settings
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.retrieval import NativeIndex
from mtaw_fast.system.memory_use import give_back_freed
from mtaw_fast.training.encoder.batch import typed
from mtaw_fast.training.plan.table_memory import current_table_memory
from mtaw_fast.training.plan.threads import current_threads
from mtaw_fast.training.ranker.dataset import go_through
from mtaw_fast.training.ranker.fitting import RankerFit, fit_ranker
from mtaw_fast.training.reporting import Reporter

_CHUNK = 1024  # prefixes encoded and searched at once


def build_tables(config: Config, sessions: Sessions, n_items: int) -> MemoryTables:
    """The memory's tables of `sessions`, by the settings, within the training's `TableMemory`."""
    bound, settings, threads = current_table_memory(), memory_settings(config), current_threads().pieces
    if bound is None:
        return MemoryTables.build(sessions, n_items, settings, threads=threads)
    return bound.build(sessions, n_items, settings, threads)


def table_bytes(config: Config, sessions: Sessions, n_items: int) -> int:
    """What `build_tables` takes at most."""
    bound, settings = current_table_memory(), memory_settings(config)
    return pass_bytes(sessions, n_items, settings).total if bound is None else bound.most(sessions, n_items, settings)


def build_trends(config: Config, sessions: Sessions, n_items: int) -> TrendTables | None:
    """What the sessions' times say; None where they have none, or the settings leave them aside."""
    if sessions.times is None or not config.memory.trends or not config.ranker.prequential:
        return None
    return TrendTables.build(
        sessions, sessions.times, n_items, trend_settings(config), threads=current_threads().pieces
    )


def fit_on_slice(
    config: Config,
    sessions: Sessions,
    n_items: int,
    min_prefix: int,
    weights: Mapping[str, np.ndarray] | None,
    folder: Path,
    phase: str,
    reporter: Reporter,
    type_weights: np.ndarray | None = None,
) -> tuple[RankerNet, list[dict[str, Any]]]:
    """Fit the ranker on the last `config.ranker_slice` of the sessions.

    Parameters
    ----------
    config : Config
        With `prequential` the slice is learned while it is gone through (`ranker_dataset`); else nothing of it is.
    sessions : Sessions
        In order of their ends.
    n_items, min_prefix : int
        The data set's.
    weights : mapping of str to array, or None
        Of an MTAW that was trained on the sessions before the slice; None where the ranker is to do without.
    folder : Path
        For the ranker_dataset.
    phase : str
        For the reporter and the records.
    reporter : Reporter
        LossStats of the progress.
    type_weights : float32[K], optional
        What samples count by the type of their target.

    Returns
    -------
    RankerNet
        The ranker.
    list of dict
        A record an epoch.
    """
    if not config.ranker.prequential:
        asked = SliceCandidates.of(config, sessions, n_items, min_prefix, weights, type_weights)
        return fit_to(asked, config, phase, reporter)
    before, last = sessions.split_last(config.ranker.ranker_fraction)
    tables = build_tables(config, before, n_items)
    since = None if before.times is None else int(before.times.max())
    trends = build_trends(config, before, n_items)
    ranker_dataset = go_through(
        config, tables, last, min_prefix, weights, folder, phase, reporter, since, trends, type_weights
    )
    fit = fit_settings(config, timed=trends is not None)
    del tables, trends  # the ranker_dataset need them no more, and they are gigabytes of a large log
    give_back_freed()
    return fit_ranker(
        ranker_dataset,
        ranker_dataset.targets,
        ranker_dataset.lengths,
        fit,
        config.optimizer.seed,
        phase,
        reporter,
        target_weights=ranker_dataset.weights,
    )


def fit_to(
    candidates: SliceCandidates, config: Config, phase: str, reporter: Reporter
) -> tuple[RankerNet, list[dict[str, Any]]]:
    """`fit_on_slice` from candidates that are there already; of the settings only the fit's own count."""
    prefixes, fit = candidates.prefixes, fit_settings(config)
    return fit_ranker(
        candidates, prefixes.targets, prefixes.lengths, fit, config.optimizer.seed, phase, reporter,
        target_weights=prefixes.weights,
    )  # fmt: skip


def fit_settings(config: Config, *, timed: bool = False) -> RankerFit:
    """The settings of the ranker's fit; UsageError where they leave out a feature that there is not.

    timed: whether it reads trends. What comes and goes within hours is learned best in many small steps
    (measured on a news log: +0.5..1.0 P@20, +0.3 MRR@20), each from some of the candidates, and in twice as many passes
    (+0.1 of both).
    """
    left_out = tuple(name.strip() for name in config.ranker.excluded_features.split(",") if name.strip())
    if timed:
        fit = RankerFit(2 * config.ranker.ranker_epochs, config.ranker.ranker_lr / 3, left_out, 64, 49, 1e-3)
    else:
        fit = RankerFit(config.ranker.ranker_epochs, config.ranker.ranker_lr, left_out)
    fit.kept(feature_names(trends=timed))
    return fit


@dataclass(frozen=True, slots=True, eq=False)
class Prefixes:
    """The Q samples of packed sessions, without a copy: prefix q is items[begins[q]:ends[q]], then comes targets[q].

    items: int32[T]; begins, ends: int64[Q]; targets: int32[Q]. weights: float32[Q], what they count, or None.
    """

    items: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None

    @classmethod
    def of(cls, sessions: Sessions, min_prefix: int, type_weights: np.ndarray | None = None) -> Prefixes:
        """Every prefix of at least `min_prefix` clicks that has a next click, session by session; with `type_weights`
        those whose next click counts."""
        counts = np.maximum(sessions.lengths - min_prefix, 0)
        begins = np.repeat(sessions.offsets[:-1], counts)
        ends = ranges(sessions.offsets[:-1] + min_prefix, counts)
        items, weights = np.ascontiguousarray(sessions.items), None
        if type_weights is not None:
            weights = type_weights[typed(sessions)[ends]]
            begins, ends, weights = begins[weights > 0], ends[weights > 0], weights[weights > 0]
        return cls(items, begins, ends, items[ends], weights)

    @property
    def lengths(self) -> np.ndarray:
        """int64[Q]: clicks of each."""
        return self.ends - self.begins

    def packed(self, begin: int, end: int) -> Sessions:
        """Prefixes begin..end-1 as sessions, copied."""
        lengths = self.lengths[begin:end]
        return Sessions(self.items[ranges(self.begins[begin:end], lengths)], offsets_of(lengths))


class SliceCandidates:
    """The `Candidates` of prefixes, made anew whenever they are asked for: kept, they would take gigabytes.

    The encoder's and the index's part is made once and kept: D ids and logits a prefix, and its query vector.
    """

    def __init__(
        self, config: Config, tables: MemoryTables, weights: Mapping[str, np.ndarray] | None, prefixes: Prefixes
    ) -> None:
        self.features = feature_names()
        self.left_out = 0
        self.prefixes = prefixes
        self._threads = max(1, current_threads().pieces - 1)  # beside the fit, which takes one
        self._memory = tables.queries(tables.n_items, query_settings(config))
        self._dense = None if weights is None else dense_of(config, weights, prefixes, current_threads().pieces)

    @classmethod
    def of(
        cls,
        config: Config,
        sessions: Sessions,
        n_items: int,
        min_prefix: int,
        weights: Mapping[str, np.ndarray] | None,
        type_weights: np.ndarray | None = None,
    ) -> SliceCandidates:
        """Those of the last `config.ranker_slice` of `sessions`; arguments as in `fit_on_slice`."""
        before, last = sessions.split_last(config.ranker.ranker_fraction)
        prefixes = Prefixes.of(last, min_prefix, type_weights)
        return cls(config, build_tables(config, before, n_items), weights, prefixes)

    def batch(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `memory_ranker.Candidates`."""
        dense = self._dense
        if dense is not None:
            dense = Dense(dense.queries[queries], dense.ids[queries], dense.logits[queries], dense.catalog, dense.scale)
        prefixes = self.prefixes
        return self._memory.features(
            prefixes.items, prefixes.begins[queries], prefixes.ends[queries], dense, threads=self._threads
        )


def dense_of(config: Config, weights: Mapping[str, np.ndarray], prefixes: Prefixes, threads: int) -> Dense:
    """What the encoder and the exact index say of the prefixes, by the code that serves."""
    catalog = normalized(weights["item_embedding"])
    encoder, index = NativeEncoder(config, weights), NativeIndex(catalog, quantize(catalog))
    n_queries, width = len(prefixes.targets), min(config.memory.dense_candidates, len(catalog))
    queries = np.empty((n_queries, config.model.embedding_dim), dtype=np.float32)
    ids = np.empty((n_queries, width), dtype=np.int32)
    logits = np.empty((n_queries, width), dtype=np.float32)

    def fill(begin: int) -> None:
        chunk = slice(begin, begin + _CHUNK)
        queries[chunk] = encoder.encode(prefixes.packed(begin, begin + _CHUNK))
        ids[chunk], logits[chunk] = index.search(queries[chunk], width, scale=config.model.scale)

    with ThreadPoolExecutor(max_workers=threads) as pool:
        list(pool.map(fill, range(0, n_queries, _CHUNK)))
    return Dense(queries, ids, logits, catalog, config.model.scale)
