"""Made-up candidates with one feature that predicts the next click."""

from __future__ import annotations

import numpy as np

from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import RankerNet

FEATURES = feature_names()
TELLING, NOISE = 3, 5  # columns


class MadeUp:
    """Q queries of 2..C candidates 100..100+C-1; feature 3 is highest at the next click, others are noise."""

    features = FEATURES
    left_out = 0
    weights: np.ndarray | None = None

    def __init__(self, n_queries: int = 900, width: int = 12, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        counts = rng.integers(2, width + 1, n_queries)
        self.ids = np.where(np.arange(width) < counts[:, None], 100 + np.arange(width), -1).astype(np.int32)
        self.positions = rng.integers(0, counts)
        self.values = rng.normal(5, 2, (n_queries, width, len(FEATURES))).astype(np.float32)
        self.values[np.arange(n_queries), self.positions, TELLING] += 9
        self.values[self.ids < 0] = 0
        self.targets = (100 + self.positions).astype(np.int32)
        self.lengths = rng.integers(1, 30, n_queries)

    def batch(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.ids[queries], self.values[queries]

    def hits(self, ranker: RankerNet) -> float:
        scores = np.where(self.ids >= 0, ranker.scores(self.values), -np.inf)
        return float((scores.argmax(axis=1) == self.positions).mean())
