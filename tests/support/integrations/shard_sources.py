"""Sources of shards for tests: rows of one random catalog, made where the shard is; some are slow or broken."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from mtaw_fast.errors import DataError

N_ITEMS, D = 5003, 20


def catalog() -> np.ndarray:
    """float32[N, d] of 1,200 distinct rows: ties everywhere, most of them between shards."""
    rng = np.random.default_rng(3)
    distinct = rng.normal(size=(1200, D)).astype(np.float32)
    return distinct[rng.integers(0, len(distinct), N_ITEMS)]


@dataclass(frozen=True)
class CatalogRows:
    """Rows begin..end - 1 of `catalog()`. slow: a file; while it exists, the shard keeps loading. broken: nothing
    can be loaded."""

    begin: int
    end: int
    slow: Path | None = None
    broken: bool = False

    def vectors(self) -> np.ndarray:
        """See `ShardSource.vectors`."""
        if self.broken:
            raise DataError("rows.bin is not there; put it there")
        while self.slow is not None and self.slow.exists():
            time.sleep(0.05)
        return catalog()[self.begin : self.end]


def sources(cuts: list[int], slow: Path | None = None, at: int = 0) -> list[CatalogRows]:
    """Of the whole catalog, cut at `cuts`. slow: of the shard number `at`."""
    edges = pairwise([0, *cuts, N_ITEMS])
    return [CatalogRows(begin, end, slow if index == at else None) for index, (begin, end) in enumerate(edges)]
