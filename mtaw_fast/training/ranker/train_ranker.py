"""Train the ranker on the last sessions (`ranker_fraction`), with tables and vectors of the sessions before them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import RankerNet
from mtaw_fast.system.memory_use import give_back_freed
from mtaw_fast.training.memory_tables import build_tables, build_trends
from mtaw_fast.training.progress import Reporter
from mtaw_fast.training.ranker.candidates import PrefixCandidates, Prefixes
from mtaw_fast.training.ranker.fit_ranker import Candidates, RankerFit, fit_ranker
from mtaw_fast.training.ranker.prequential import build_dataset
from mtaw_fast.training.ranker.side_inputs import NOTHING, SideInputs

MAX_CLICKS = 10_000_000  # which learning them takes some gigabytes; the ranker's samples are fewer by far
_DAY = 24 * 3_600_000  # ms
_AGES = (8 * 3_600_000, 20 * 3_600_000)  # of the tables of frozen samples, before the last sessions


def split_for_ranker(config: Config, sessions: Sessions) -> tuple[Sessions, Sessions]:
    """Split by whole session, in order: (those before, the last `ranker_fraction`, at most `MAX_CLICKS` clicks)."""
    before, last = sessions.split_last(config.ranker.ranker_fraction)
    if last.n_clicks <= MAX_CLICKS:
        return before, last
    boundary = int(np.searchsorted(sessions.offsets, sessions.n_clicks - MAX_CLICKS))
    boundary = min(boundary, len(sessions) - 1)
    return sessions.slice(0, boundary), sessions.slice(boundary, len(sessions))


def older_parts(before: Sessions, last: Sessions) -> list[Sessions]:
    """Return parts of the sessions before, without their last 8 and 20 hours, for frozen samples.

    The last sessions of a log of a few days span hours, so its ranker would not learn what day-old counts are worth.
    There is no part if they span a day, and none with less than half of the sessions before.
    """
    if before.times is None or last.times is None:
        return []
    ends, until = before.times[before.offsets[1:] - 1], int(before.times.max())
    if int(last.times.max()) - until >= _DAY:
        return []
    counts = [int(np.searchsorted(ends, until - age)) for age in _AGES]
    return [before.slice(0, count) for count in counts if 2 * count >= len(before)]


def ranker_samples(
    config: Config,
    sessions: Sessions,
    n_items: int,
    min_prefix: int,
    weights: Mapping[str, np.ndarray] | None,
    folder: Path,
    phase: str,
    reporter: Reporter,
    type_weights: np.ndarray | None = None,
    side: SideInputs = NOTHING,
) -> Candidates:
    """Rank the clicks of the last `config.ranker.ranker_fraction` of the sessions.

    config: with `prequential` the memory learns the last sessions chunk by chunk (`ranker.prequential`); else it stays
        as the sessions before them left it.
    sessions: in order of their ends. n_items: of the data set. The other parameters are those of `build_dataset`.
    """
    before, last = split_for_ranker(config, sessions)
    n_clicks = sessions.split_last(config.ranker.ranker_fraction)[1].n_clicks
    if n_clicks > MAX_CLICKS:
        logging.getLogger("mtaw_fast").warning(
            f"ranker: learns from the last {MAX_CLICKS:,} clicks, since the last {config.ranker.ranker_fraction:g} of "
            f"the sessions (ranker_fraction) have {n_clicks:,}"
        )
    tables = build_tables(config, before, n_items)
    if not config.ranker.prequential:
        prefixes = Prefixes.of(last, min_prefix, type_weights, side.type_codes(last))
        return PrefixCandidates(config, tables, weights, prefixes, side)
    since = None if before.times is None else int(before.times.max())
    trends = build_trends(config, before, n_items, side.context)
    return build_dataset(
        config, tables, last, min_prefix, weights, folder, phase, reporter, since, trends, type_weights, side,
        older_parts(before, last),
    )  # fmt: skip


def fit_samples(
    samples: Candidates, config: Config, phase: str, reporter: Reporter
) -> tuple[RankerNet, list[dict[str, Any]]]:
    """Fit a ranker on the samples; return it, and a record an epoch."""
    give_back_freed()  # tables of the samples: gigabytes for a large log
    settings = fit_settings(config, timed=set(feature_names(trends=True)) <= set(samples.features))
    return fit_ranker(samples, settings, config.optimizer.seed, phase, reporter)


def with_fit_settings(config: Config, *, timed: bool) -> Config:
    """Return the settings with the epochs and the learning rate of the ranker's fit decided.

    timed: as in `fit_settings`. Trends are learned best in twice as many epochs (+0.1 P@20 and MRR@20 on a news log).
    """
    ranker = config.ranker
    return config.replace(
        ranker_epochs=ranker.ranker_epochs or (8 if timed else 4),
        ranker_lr=ranker.ranker_lr or (2e-3 if timed else 6e-3),
    )


def fit_settings(config: Config, *, timed: bool = False) -> RankerFit:
    """Return the settings of the ranker's fit.

    timed: whether the ranker reads trends. Those change within hours and are learned best in many small steps (measured
    on a news log: +0.5..1.0 P@20, +0.3 MRR@20), each on some of the candidates.
    """
    excluded = tuple(name.strip() for name in config.ranker.excluded_features.split(",") if name.strip())
    ranker = with_fit_settings(config, timed=timed).ranker
    if timed:
        return RankerFit(ranker.ranker_epochs, ranker.ranker_lr, excluded, batch=64, negatives=49, weight_decay=1e-3)
    return RankerFit(ranker.ranker_epochs, ranker.ranker_lr, excluded)
