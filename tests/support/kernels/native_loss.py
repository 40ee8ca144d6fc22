"""Inputs of the native AW loss as numpy arrays, and the instruction sets that its tests run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from mtaw_fast.kernels.native import _native

PATHS = [
    ("portable", "float32"), ("avx2", "float32"), ("avx512", "float32"),
    ("bf16", "bfloat16"), ("amx", "bfloat16"), ("neon", "float32"),
]  # fmt: skip
# Around the tile's 192 items, a part's 3,072, a register tile's 6, a block's 64 rows, a group's 512 and the products'
# 128.
SHAPES = [
    (1, 1, 1), (1, 7, 3), (2, 193, 1), (5, 2, 100), (31, 192, 33), (37, 501, 20), (64, 6, 17), (65, 385, 15),
    (129, 191, 100), (300, 129, 64), (70, 400, 128), (33, 200, 257), (530, 60, 12), (40, 6300, 9),
]  # fmt: skip


@dataclass(frozen=True)
class Problem:
    queries: np.ndarray
    items: np.ndarray
    targets: np.ndarray
    row_weights: np.ndarray
    gamma: float = 2.0
    scale: float = 16.0


def problem(rows: int, items: int, d: int, seed: int = 0, gamma: float = 2.0) -> Problem:
    rng = np.random.default_rng(seed)
    return Problem(
        queries=rng.standard_normal((rows, d)).astype(np.float32),
        items=rng.standard_normal((items, d)).astype(np.float32),
        targets=rng.integers(0, items, rows),
        row_weights=((rng.random(rows) + 0.5) * (rng.random(rows) > 0.2)).astype(np.float32),
        gamma=gamma,
    )


def has(isa: str) -> bool:
    levels = ["portable", "avx2", "avx512", "vnni", "bf16", "amx"]
    best = _native.cpu_isa()
    if "neon" in (isa, best):
        return isa in (best, "portable")
    return levels.index(isa) <= levels.index(best)


def on_every_path(test: Callable[..., None]) -> Callable[..., None]:
    parameters = [
        pytest.param(
            *path, marks=pytest.mark.skipif(not has(path[0]), reason=f"this CPU has no {path[0]}"), id="-".join(path)
        )
        for path in PATHS
    ]
    return pytest.mark.parametrize(("isa", "compute"), parameters)(test)
