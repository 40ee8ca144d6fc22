"""Queries of a small log for the ranker."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.training.memory_tables import build_tables
from mtaw_fast.training.progress import Silent
from mtaw_fast.training.ranker.dataset import RankerDataset
from mtaw_fast.training.ranker.prequential import build_dataset
from tests.support.random_bundle import random_weights

N = 40
CONFIG = Config.of(embedding_dim=8, enabled=True, dense_candidates=N, prequential_chunk=16, prequential_seconds=60.0)
WEIGHTS = random_weights(CONFIG, N)


def drawn(seed: int, count: int, items: int = N, timed: bool = False) -> Sessions:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 7, count)
    sessions = Sessions(rng.integers(0, items, lengths.sum()).astype(np.int32), offsets_of(lengths))
    if not timed:
        return sessions
    gaps = rng.integers(1, 40_000, len(sessions.items))
    times = np.concatenate([
        1_000_000 + 20_000 * b + np.cumsum(gaps[begin:end])
        for b, (begin, end) in enumerate(zip(sessions.offsets, sessions.offsets[1:], strict=False))
    ])  # fmt: skip
    return Sessions(sessions.items, sessions.offsets, times.astype(np.int64))


BEFORE = drawn(1, 60, items=N - 8)  # the last eight items are new in the last sessions


def trends_before() -> TrendTables:
    return TrendTables.build(BEFORE, 10_000 * np.arange(len(BEFORE.items)), N)


def dataset_of(
    last: Sessions, tmp_path: Path, config: Config = CONFIG, since: int | None = None, trends: bool = False
) -> RankerDataset:
    tables = build_tables(config, BEFORE, N)
    past = trends_before() if trends else None
    return build_dataset(config, tables, last, 1, WEIGHTS, tmp_path, "ranker", Silent(), since, past)
