"""A model whose clicks have times."""

from __future__ import annotations

import numpy as np

from mtaw_fast.bundle import Model
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.memory.trends import TrendTables
from tests.support.random_bundle import bundle_parts, memory_parts

N = 50
HOUR = 3_600_000
END = 1_764_150_000_000


def timed_model(ranked_candidates: int = 92) -> Model:
    """Sessions over ten days: item 7 is clicked only in the last hour, item 3 only before."""
    rng = np.random.default_rng(5)
    sessions, times = [], []
    for session in range(400):
        start = END - (400 - session) * HOUR * 24 * 10 // 400
        hot = [7] if start > END - HOUR else [3]
        items = [*rng.permutation(np.arange(10, N))[: rng.integers(1, 5)].tolist(), *hot]
        sessions.append(items)
        times.append(start + 30_000 * np.arange(len(items)))
    for minute in range(40):
        sessions.append([7, int(rng.integers(10, N))])
        times.append(END - HOUR + minute * 60_000 + np.array([0, 20_000]))
    packed, clicked_at = Sessions.from_lists(sessions), np.concatenate(times).astype(np.int64)
    parts = bundle_parts(n_items=N, embedding_dim=8)
    parts.pop("metrics"), parts.pop("dataset")
    parts["config"] = parts["config"].replace(ranked_candidates=ranked_candidates)
    features = feature_names(trends=True)
    plain = memory_parts(N)["ranker_net"].arrays()
    added = len(features) - len(plain["mean"])
    wide = {name: np.concatenate([plain[name], np.ones(added, np.float32)]) for name in ("mean", "scale", "linear")}
    wide["w1"] = np.concatenate([plain["w1"], 0.1 * rng.normal(size=(added, plain["w1"].shape[1])).astype(np.float32)])
    return Model.of(
        **{**parts, "popularity": np.bincount(packed.items, minlength=N)},
        memory=MemoryTables.build(packed, N), ranker_net=RankerNet(features=features, **{**plain, **wide}),
        clicked_at=clicked_at, trends=TrendTables.build(packed, clicked_at, N),
    )  # fmt: skip
