"""Random catalogs."""

from __future__ import annotations

import numpy as np

from mtaw_fast.model.item_vectors import normalized


def unit_rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    return normalized(np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32))
