"""Inputs of the AW loss as PyTorch tensors, its loss and gradients by a backend, and how close they must be."""

from __future__ import annotations

import torch
from torch import Tensor

from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.kernels.triton_device import interpreting

Inputs = tuple[Tensor, ...]  # queries, items, targets, weights
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


def problem(rows: int, items: int, d: int, seed: int = 0, device: torch.device = CPU) -> Inputs:
    """Return float64 queries, items, targets and weights with some zeros."""
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(rows, d, generator=generator, dtype=torch.float64)
    catalog = torch.randn(items, d, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, items, (rows,), generator=generator)
    weights = (torch.rand(rows, generator=generator, dtype=torch.float64) + 0.5) * (
        torch.rand(rows, generator=generator) > 0.3
    )
    return queries.to(device), catalog.to(device), targets.to(device), weights.to(device)


def triton_problem(rows: int, items: int, d: int, seed: int = 0) -> Inputs:
    """Return `problem` where the Triton backend runs."""
    return problem(rows, items, d, seed, TRITON_DEVICE)


def worst(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def loss_rounding(gamma: float, scale: float = 16.0) -> float:
    """Return what a float32 logit's own rounding moves a loss by: eager may be lucky with a row or two."""
    return scale * torch.finfo(torch.float32).eps * 2**gamma  # the largest slope of the target's term


def loss_and_gradients(
    backend: str,
    dtype: torch.dtype,
    compute: torch.dtype | None,
    inputs: Inputs,
    gamma: float,
    scale: float = 16.0,
    negatives: bool = False,
) -> list[Tensor]:
    """Weighted row losses and both gradients, in float64."""
    queries, catalog, targets, weights = inputs
    q = queries.to(dtype, copy=True).requires_grad_()
    e = catalog.to(dtype, copy=True).requires_grad_()
    loss = aw_loss(
        q, e, targets, scale=scale, gamma=gamma, weights=weights.to(dtype), reduction="none", negatives=negatives,
        compute_dtype=compute, backend=backend,
    )  # fmt: skip
    return with_gradients(loss, q, e)


def with_gradients(loss: Tensor, q: Tensor, e: Tensor) -> list[Tensor]:
    """Row losses, and the gradients of a sum of them that is uneven and of both signs: rows cannot be mixed up."""
    (loss * torch.linspace(-0.5, 2, len(loss), dtype=loss.dtype, device=loss.device)).sum().backward()
    assert q.grad is not None
    assert e.grad is not None
    assert q.grad.dtype == q.dtype
    assert e.grad.dtype == e.dtype
    return [tensor.detach().double() for tensor in (loss, q.grad, e.grad)]


def assert_as_close_as_eager(
    dtype: torch.dtype, compute: torch.dtype | None, inputs: Inputs, gamma: float, negatives: bool = False
) -> None:
    """Of Triton's backend: error at most twice eager's plus eps of what is largest."""
    queries, catalog, targets, weights = inputs
    given = (queries.to(dtype).double(), catalog.to(dtype).double(), targets, weights.to(dtype).double())
    exact = loss_and_gradients("reference", torch.float64, None, given, gamma, negatives=negatives)
    eager = loss_and_gradients("reference", dtype, compute, inputs, gamma, negatives=negatives)
    ours = loss_and_gradients("triton", dtype, compute, inputs, gamma, negatives=negatives)
    for name, truth, peer, got in zip(("loss", "d queries", "d items"), exact, eager, ours, strict=True):
        slack = torch.finfo(compute or dtype).eps * max(truth.abs().max().item(), 1e-3)
        if name == "loss":
            slack += loss_rounding(gamma)
        assert worst(got, truth) <= 2 * worst(peer, truth) + slack, name
