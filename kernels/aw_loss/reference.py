"""The AW loss in plain PyTorch, B x N logits and all: the reference for every faster backend.

1 - p is no difference anywhere. Only the target and the largest other item of a row can have p above 1/2; for these
two its logarithm comes from the sum of the other items, so that it keeps its digits down to the smallest 1 - p.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from mtaw_fast.kernels.aw_loss.request import LossRequest

_LOG_2 = math.log(2)


def not_supported_reasons(request: LossRequest) -> list[str]:
    """Why this backend cannot take the request: it takes everything."""
    del request
    return []


def aw_loss(request: LossRequest) -> Tensor:
    """Loss of every row, unweighted: float[B]."""
    dtype = torch.promote_types(request.queries.dtype, request.items.dtype)
    compute_dtype = request.compute_dtype or dtype
    queries = functional.normalize(request.queries, dim=1).to(compute_dtype)
    items = functional.normalize(request.items, dim=1).to(compute_dtype)
    logits = request.scale * (queries @ items.T).to(dtype)  # [B, N]
    targets = request.targets[:, None]
    of_target = logits.gather(1, targets)  # [B, 1]
    others = logits.scatter(1, targets, -math.inf)  # [B, N]
    log_others = others.logsumexp(dim=1, keepdim=True)
    log_odds = (of_target - log_others)[:, 0]
    loss = -adaptive_weight(log_odds, request.gamma) * functional.logsigmoid(log_odds)
    if request.negatives:
        loss = loss + _negative_term(others, of_target, request.gamma)
    return loss


def adaptive_weight(log_odds: Tensor, gamma: float) -> Tensor:
    """(2 - 2p)^gamma of log(p / (1 - p)), by its own branch for gamma = 0."""
    if gamma == 0:
        return torch.ones_like(log_odds)
    return (gamma * (_LOG_2 + functional.logsigmoid(-log_odds))).exp()


def row_scalar(log_odds: Tensor, gamma: float) -> Tensor:
    """c = -d loss / d log p = (2 - 2p)^gamma (1 - gamma p log p / (1 - p)) of log(p / (1 - p)).

    As p nears 1, -log p / (1 - p) nears 1.
    """
    if gamma == 0:
        return torch.ones_like(log_odds)
    miss = log_odds.neg().sigmoid()
    ratio = torch.where(miss > 0, -functional.logsigmoid(log_odds) / miss, 1.0)
    return adaptive_weight(log_odds, gamma) * (1 + gamma * log_odds.sigmoid() * ratio)


def _negative_term(others: Tensor, of_target: Tensor, gamma: float) -> Tensor:
    """-sum over j != target of (2 p_j)^gamma log(1 - p_j): float[B].

    others: the logits [B, N], -inf at the targets. of_target: [B, 1].
    """
    largest, columns = others.max(dim=1, keepdim=True)
    rest = others.scatter(1, columns, -math.inf)
    log_rest = torch.logaddexp(rest.logsumexp(dim=1, keepdim=True), of_target)  # without the largest one
    log_p = rest - torch.logaddexp(log_rest, largest)  # at most log 1/2
    log_odds = (largest - log_rest)[:, 0]
    term = torch.log1p(-log_p.exp())
    if gamma != 0:
        term = term * (gamma * (_LOG_2 + log_p)).exp()
    return -term.sum(dim=1) - adaptive_weight(-log_odds, gamma) * functional.logsigmoid(-log_odds)
