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

from mtaw_fast.bundle import Model
from mtaw_fast.bundle.reader import read_manifest
from mtaw_fast.data.readers.stream import ClickStream
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.trends import TrendTables
from tests.support.online.recommenders import model_fields, plain_ranker, save

N, D = 12, 4
TRAINED_MS = 1_764_050_000_000  # the last click of the training; the simulation begins a day later
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
    parts = model_fields(N, D, seed=seed)
    sessions = Sessions.from_lists([rng.integers(0, N, rng.integers(2, 5)) for _ in range(20)])
    parts["popularity"] = np.bincount(sessions.items, minlength=N).astype(np.int64)
    clicked_at = TRAINED_MS - 10_000 * np.arange(len(sessions.items), dtype=np.int64)[::-1]
    trends = TrendTables.build(sessions, clicked_at, N) if timed else None
    memory, ranker = MemoryTables.build(sessions, N), plain_ranker(timed, weigh_trends=timed)
    model = Model.of(**parts, memory=memory, ranker_net=ranker, clicked_at=clicked_at, trends=trends)
    folder = Path(
        tempfile.mkdtemp(prefix="mtaw-simulation-base-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    )
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    save(folder / "bundle", model)
    counts = Counter(dict(zip(BASE_ITEMS, parts["popularity"].tolist(), strict=True)))
    return Trained(folder / "bundle", model, counts, training_of(read_manifest(folder / "bundle")))


def late_clicks(seed: int, sessions: int) -> ClickStream:
    """Return the clicks of a log file, after the training and before the simulation, other ones for each seed."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(sessions, dtype=np.int32), 2)
    begin = TRAINED_MS + 1_000_000 + 1_000_000 * (seed % 80)
    times = begin + 1_000 * np.arange(2 * sessions, dtype=np.int64)
    items = rng.integers(0, N, 2 * sessions).astype(np.int32)
    return ClickStream(owners, items, times, None, [f"u{seed}.{user}" for user in range(sessions)], list(BASE_ITEMS))
