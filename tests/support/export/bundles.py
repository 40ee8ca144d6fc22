"""Bundles of every kind for the exports, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle, Model
from mtaw_fast.bundle.format import GRAPH_PARTS
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.memory.trends import TrendTables
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts

N, D, MAX_LEN = 400, 20, 24
SETTINGS: dict[str, Any] = {"n_items": N, "embedding_dim": D, "max_positions": 9, "max_session_length": MAX_LEN}
KINDS = ("plain", "memory", "ints", "timed")
HOUR = 3_600_000
END = 1_764_150_000_000


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def graph(bundle: Bundle, name: str, variant: str = "float32") -> Path:
    path = bundle.file(GRAPH_PARTS[name, variant])
    assert path is not None
    return path


def save_kind(kind: str, folder: Path, n_items: int) -> Bundle:
    """Save a bundle of one of KINDS and return it."""
    if kind == "timed":
        return _save_timed(folder, n_items)
    parts = bundle_parts(
        n_items=n_items, embedding_dim=16, max_session_length=30, text=kind != "ints", recent_weight=2.0,
        recent_decay=0.6,
    )  # fmt: skip
    return save_parts(folder, **parts, **({} if kind == "plain" else memory_parts(n_items)))


def _save_timed(folder: Path, n_items: int) -> Bundle:
    """Save a bundle with trends: sessions over ten days until END, random weights."""
    rng = np.random.default_rng(5)
    lists = [rng.zipf(1.4, rng.integers(2, 9)) % n_items for _ in range(5 * n_items)]
    starts = np.sort(END - rng.integers(HOUR // 2, 240 * HOUR, len(lists)))
    times = np.concatenate([start + 30_000 * np.arange(len(items)) for start, items in zip(starts, lists, strict=True)])
    times[-1] = END
    sessions = Sessions.from_lists(lists)
    parts = bundle_parts(n_items=n_items, embedding_dim=16, max_session_length=30)
    parts.pop("metrics"), parts.pop("dataset")
    plain, names = memory_parts(n_items)["ranker_net"].arrays(), feature_names(trends=True)
    added = len(names) - len(plain["mean"])
    wide = {
        name: np.concatenate([plain[name], rng.normal(0.1, 0.1, added).astype(np.float32)])
        for name in ("mean", "linear")
    }
    wide["scale"] = np.concatenate([plain["scale"], np.full(added, 0.3, np.float32)])
    for name in ("t_first", "t_last_age"):  # some ages are within the bounds and some are not
        wide["mean"][names.index(name)], wide["scale"][names.index(name)] = 8.0, 4.0
    wide["w1"] = np.concatenate([plain["w1"], 0.1 * rng.normal(size=(added, plain["w1"].shape[1])).astype(np.float32)])
    model = Model.of(
        **{**parts, "popularity": np.bincount(sessions.items, minlength=n_items)},
        memory=MemoryTables.build(sessions, n_items), ranker_net=RankerNet(features=names, **{**plain, **wide}),
        clicked_at=times.astype(np.int64), trends=TrendTables.build(sessions, times.astype(np.int64), n_items),
    )  # fmt: skip
    Bundle.save(folder, model, metrics={}, dataset={})
    return Bundle.load(folder)
