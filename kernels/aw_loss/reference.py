"""The AW loss in plain PyTorch, B x N logits and all: the reference for every faster backend."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mtaw_fast.kernels.aw_loss.request import LossRequest

# For gamma < 1 the derivative of (2 - 2p)^gamma is unbounded where p reaches 1.
SMALLEST_BASE = 1e-6


def not_supported_reasons(request: LossRequest) -> list[str]:
    """Why this backend cannot take the request: it takes everything."""
    del request
    return []


def aw_loss(request: LossRequest) -> Tensor:
    """Loss of every row, unweighted: float[B]."""
    queries = functional.normalize(request.queries, dim=1)
    items = functional.normalize(request.items, dim=1)
    if request.compute_dtype is not None:
        queries, items = queries.to(request.compute_dtype), items.to(request.compute_dtype)
    logits = request.scale * (queries @ items.T).to(request.queries.dtype)  # [B, N]
    log_p = functional.log_softmax(logits, dim=1).gather(1, request.targets[:, None])[:, 0]  # [B]
    loss = -adaptive_weight(log_p, request.gamma) * log_p
    if request.negatives:
        loss = loss + _negative_term(logits, request.targets, request.gamma)
    return loss


def adaptive_weight(log_p: Tensor, gamma: float) -> Tensor:
    """(2 - 2p)^gamma, by its own branch for gamma = 0."""
    if gamma == 0:
        return torch.ones_like(log_p)
    return (-2 * torch.expm1(log_p)).clamp_min(SMALLEST_BASE) ** gamma


def _negative_term(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """-sum over j != target of (2 y_j)^gamma log(1 - y_j): float[B]."""
    y = logits.softmax(dim=1)
    term = (2 * y) ** gamma * torch.log1p(-y.clamp_max(1 - SMALLEST_BASE))
    return -term.scatter(1, targets[:, None], 0.0).sum(dim=1)
