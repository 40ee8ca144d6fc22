"""The AW loss near certainty, in log space: rows that are sure of their target or of another item.

The oracle takes the logarithm of every 1 - p_j from the sum of the other items' exponentials, so nothing cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

ROWS, ITEMS, DIM = 256, 300, 64
_SMALLEST = 1e-3  # what is smaller counts as this large


def oracle(queries: Tensor, items: Tensor, targets: Tensor, scale: float, gamma: float, negatives: bool) -> Tensor:
    """Return the loss of every row from its definition, in log space: float[B]. Takes O(B N^2) operations."""
    logits = scale * functional.normalize(queries, dim=1) @ functional.normalize(items, dim=1).T  # [B, N]
    total = logits.logsumexp(dim=1, keepdim=True)
    log_p = logits - total
    numbers = torch.arange(logits.shape[1])
    others = [logits[:, numbers != j].logsumexp(dim=1) for j in numbers]
    log_miss = torch.stack(others, dim=1) - total  # log(1 - p_j)
    own_p, own_miss = (x.gather(1, targets[:, None])[:, 0] for x in (log_p, log_miss))
    loss = -torch.exp(gamma * (math.log(2) + own_miss)) * own_p
    if negatives:
        terms = -torch.exp(gamma * (math.log(2) + log_p)) * log_miss
        loss = loss + terms.scatter(1, targets[:, None], 0.0).sum(dim=1)
    return loss


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Return float32 queries and items, and targets: every query is near an item, its target in half of the rows."""
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(ITEMS, DIM, generator=generator)
    near = torch.randint(0, ITEMS, (ROWS,), generator=generator)
    noise = torch.rand(ROWS, 1, generator=generator) * torch.randn(ROWS, DIM, generator=generator)
    is_target = torch.rand(ROWS, generator=generator) < 0.5
    targets = torch.where(is_target, near, torch.randint(0, ITEMS, (ROWS,), generator=generator))
    return items[near] + noise, items, targets


def loss_and_gradients(loss: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Return the rows' losses and both gradients of their sum, in float64."""
    queries, items, _ = inputs()
    leaves = [x.to(dtype).requires_grad_() for x in (queries, items)]
    value = loss(*leaves)
    return [x.detach().double() for x in (value, *torch.autograd.grad(value.sum(), leaves))]


def worst(got: Tensor, truth: Tensor) -> float:
    """Return the largest relative error of a row."""
    rows, expected = (x.reshape(len(x), -1) for x in (got - truth, truth))
    return (rows.norm(dim=1) / expected.norm(dim=1).clamp_min(_SMALLEST)).max().item()
