"""The trained bundles of the simulation: a few items and sessions, made once a process."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mtaw_fast.bundle import Bundle, Model
from mtaw_fast.data.readers.stream import ClickStream
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.memory.trends import TrendTables
from tests.support.online.recommenders import plain_ranker
from tests.support.random_bundle import bundle_parts

N, D = 12, 4
TRAINED_MS = 1_764_050_000_000  # the last click of the training; the simulation begins a day later
_TREND_WEIGHTS = {"t_pre": 0.5, "t_last": -0.05, "t_first": -0.02, "t_fwd_last_1": 0.1, "t_later_3": 0.1}
BASE_ITEMS = tuple(f"sku-{number}" for number in range(N))


@dataclass(frozen=True)
class Trained:
    """A trained bundle in a folder, and the clicks that it counts. training: the hash of its model."""

    folder: Path
    model: Model
    counts: Counter[str]
    training: str


@cache
def trained(seed: int, timed: bool = False) -> Trained:
    """Return a bundle; another one for each seed. timed: with a ranker that reads trends."""
    from tests.simulation.checks import training_of

    rng = np.random.default_rng(seed)
    parts = bundle_parts(n_items=N, embedding_dim=D, seed=seed)
    parts.pop("metrics"), parts.pop("dataset")
    sessions = Sessions.from_lists([rng.integers(0, N, rng.integers(2, 5)) for _ in range(20)])
    parts["popularity"] = np.bincount(sessions.items, minlength=N).astype(np.int64)
    times = TRAINED_MS - 10_000 * np.arange(len(sessions.items))[::-1]
    memory = MemoryTables.build(sessions, N)
    clicked_at = times.astype(np.int64)
    trends = TrendTables.build(sessions, clicked_at, N) if timed else None
    ranker = _timed_ranker() if timed else plain_ranker()
    model = Model.of(**parts, memory=memory, ranker_net=ranker, clicked_at=clicked_at, trends=trends)
    folder = Path(
        tempfile.mkdtemp(prefix="mtaw-simulation-base-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    )
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    bundle = Bundle.save(folder / "bundle", model, metrics={}, dataset={"name": "x", "fingerprint": "y"})
    counts = Counter(dict(zip(BASE_ITEMS, parts["popularity"].tolist(), strict=True)))
    return Trained(folder / "bundle", model, counts, training_of(bundle.manifest))


def _timed_ranker() -> RankerNet:
    """Return `plain_ranker` with trends that count."""
    ranker = plain_ranker(trends=True)
    arrays = ranker.arrays()
    for name, weight in _TREND_WEIGHTS.items():
        arrays["linear"][ranker.features.index(name)] = weight
    return RankerNet(features=ranker.features, **arrays)


def late_clicks(seed: int, sessions: int) -> ClickStream:
    """Return the clicks of a log file, after the training and before the simulation, other ones for each seed."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(sessions, dtype=np.int32), 2)
    begin = TRAINED_MS + 1_000_000 + 1_000_000 * (seed % 80)
    times = begin + 1_000 * np.arange(2 * sessions, dtype=np.int64)
    items = rng.integers(0, N, 2 * sessions).astype(np.int32)
    return ClickStream(owners, items, times, None, [f"u{seed}.{user}" for user in range(sessions)], list(BASE_ITEMS))
