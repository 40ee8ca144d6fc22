"""Inputs of the AW loss as PyTorch tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from mtaw_fast.kernels.triton_device import interpreting

CPU = torch.device("cpu")
# Of the tests of the Triton backend.
TRITON_DEVICE = torch.device("cpu" if interpreting() else "cuda")
# (rows, items, d): whole vectors, vectors in chunks (d > 128, and d > 32 in float32), one of everything.
TRITON_SHAPES = [(1, 1, 1), (1, 7, 3), (5, 2, 100), (37, 501, 7), (40, 70, 128), (3, 40, 300)]
# (dtype of queries and items, dtype of the matrix products)
TRITON_DTYPES = [
    (torch.float32, None),
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.float16),
    (torch.bfloat16, None),
    (torch.float16, None),
]


def problem(
    rows: int, items: int, d: int, seed: int = 0, device: torch.device = CPU
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return float64 queries, items, targets and weights with some zeros."""
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(rows, d, generator=generator, dtype=torch.float64)
    catalog = torch.randn(items, d, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, items, (rows,), generator=generator)
    weights = (torch.rand(rows, generator=generator, dtype=torch.float64) + 0.5) * (
        torch.rand(rows, generator=generator) > 0.3
    )
    return queries.to(device), catalog.to(device), targets.to(device), weights.to(device)


def triton_problem(rows: int, items: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return `problem` where the Triton backend runs."""
    return problem(rows, items, d, seed, TRITON_DEVICE)


def worst(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def loss_rounding(gamma: float, scale: float = 16.0) -> float:
    """Return what a float32 logit's own rounding moves a loss by: eager may be lucky with a row or two."""
    return scale * torch.finfo(torch.float32).eps * 2**gamma  # the largest slope of the target's term
