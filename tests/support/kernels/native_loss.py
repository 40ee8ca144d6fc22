"""Inputs of the native AW loss as numpy arrays, its outputs, and the instruction sets that its tests run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.kernels.native import _native
from mtaw_fast.kernels.native import loss as native_loss

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


def run(
    p: Problem,
    isa: str | None = None,
    compute: str = "float32",
    threads: int = 1,
    gradients: str = "qe",
    item_weights: np.ndarray | None = None,
    negatives: bool = False,
) -> dict[str, np.ndarray]:
    """Outputs of the native kernel, every one of which was NaN before."""
    loss = np.full(len(p.queries), np.nan, np.float32)
    d_queries = np.full_like(p.queries, np.nan) if "q" in gradients else None
    d_items = np.full_like(p.items, np.nan) if "e" in gradients else None
    native_loss.aw_loss(
        p.queries, p.items, p.targets, p.row_weights, scale=p.scale, gamma=p.gamma,
        loss=loss, d_queries=d_queries, d_items=d_items, compute=compute, threads=threads, isa=isa,
        item_weights=item_weights, negatives=negatives,
    )  # fmt: skip
    named = {"loss": loss, "d_queries": d_queries, "d_items": d_items}
    return {name: array for name, array in named.items() if array is not None}


def reference(p: Problem, dtype: torch.dtype, compute: str | None, negatives: bool = False) -> dict[str, np.ndarray]:
    """The same by the eager reference, in `dtype` with products in `compute`, as float64."""
    q, e = (torch.tensor(array).to(dtype).requires_grad_() for array in (p.queries, p.items))
    loss = aw_loss(
        q, e, torch.tensor(p.targets), scale=p.scale, gamma=p.gamma, reduction="none", backend="reference",
        compute_dtype=None if compute is None else getattr(torch, compute), negatives=negatives,
    )  # fmt: skip
    (loss * torch.tensor(p.row_weights).to(dtype)).sum().backward()
    assert q.grad is not None
    assert e.grad is not None
    tensors = {"loss": loss.detach(), "d_queries": q.grad, "d_items": e.grad}
    return {name: tensor.double().numpy() for name, tensor in tensors.items()}


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
