"""Brute force for tests of the native scanner, and catalogs that are hard for it."""

from __future__ import annotations

import numpy as np

from mtaw_fast.kernels.native import reference
from mtaw_fast.kernels.native.scan import Scanner


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def brute_force(
    queries: np.ndarray,
    catalog: np.ndarray,
    k: int,
    scale: float,
    mask: np.ndarray | None = None,
    excluded: list[np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    candidates = np.tile(np.arange(len(catalog), dtype=np.int32), (len(queries), 1))
    if mask is not None:
        candidates[:, ~mask] = -1
    for row, ids in zip(candidates, excluded or [], strict=False):
        row[ids] = -1
    return reference.rerank_topk(queries, catalog, candidates, k, scale)


def check(
    scanner: Scanner,
    catalog: np.ndarray,
    queries: np.ndarray,
    k: int,
    scale: float = 16.0,
    mask: np.ndarray | None = None,
    excluded: list[np.ndarray] | None = None,
) -> None:
    bits = None if mask is None else np.packbits(mask, bitorder="little")
    lists = () if excluded is None else packed(excluded)
    result = scanner.search(queries, k, scale, bits, *lists)
    expected = brute_force(queries, catalog, k, scale, mask, excluded)
    for got, wanted in zip(result, expected, strict=True):
        assert got.dtype == wanted.dtype
        assert got.tobytes() == wanted.tobytes()


def packed(lists: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    return np.concatenate([np.empty(0, np.int32), *map(np.sort, lists)]).astype(np.int32), offsets


def ring(n: int, d: int, jitter: float) -> np.ndarray:
    """One direction, moved by `jitter`: under the codes' resolution for small ones."""
    base = normal(1, d, seed=3).astype(np.float64)
    return (base * (1 + jitter * np.random.default_rng(4).standard_normal((n, d)))).astype(np.float32)
