"""The AW loss over a sample of the catalog: the partition sum is estimated, without bias.

Some items are surely in the sum: a batch's own (its clicks and targets) and whichever else the caller names. Of the
others so many are drawn uniformly, without replacement, and stand for the rest. So the chance that an item is in the
sum is known (1, or drawn / others), and its logit is lowered by the log of that chance (the logQ correction): E[S] is
the whole catalog's partition sum, whatever the sure ones are. A target is always in the sum, once and as itself: no
draw can hit it. Nothing but S is estimated, so where all others are drawn loss and gradients are those of the full
softmax.

Axes: S samples, N items, R rows of the item embedding that take part, d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mtaw_fast.kernels.aw_loss import native
from mtaw_fast.kernels.aw_loss.reference import SMALLEST_BASE
from mtaw_fast.kernels.aw_loss.request import LossRequest


@dataclass(frozen=True, slots=True, eq=False)
class CatalogSample:
    """Which rows of the catalog take part in a step.

    Attributes
    ----------
    rows : int64[R]
        Distinct items: the sure ones, rising, then those drawn.
    sure : int
        How many are surely there.
    correction : float
        What is added to a drawn item's logit: -log of the chance that it was drawn.
    """

    rows: np.ndarray
    sure: int
    correction: float

    @classmethod
    def drawn(cls, sure: np.ndarray, n_items: int, count: int, rng: np.random.Generator) -> CatalogSample:
        """The items int64[D] (distinct, rising) and `count` of the others; all of them where there are no more."""
        others = n_items - len(sure)
        count = min(count, others)
        places = np.arange(others) if count == others else rng.choice(others, count, replace=False, shuffle=False)
        # The k-th item that is not a sure one: k and as many as sure ones lie before it.
        rest = places + np.searchsorted(sure - np.arange(len(sure)), places, side="right")
        return cls(np.concatenate([sure, rest]), len(sure), math.log(others / count) if count else 0.0)


def sampled_aw_loss(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    sample: CatalogSample,
    *,
    scale: float,
    gamma: float,
    weights: Tensor | None = None,
    compute_dtype: torch.dtype | None = None,
    threads: int | None = None,
) -> Tensor:
    """The mean AW loss, float[], of `kernels.aw_loss` with the partition sum of the sample.

    In C++ where the kernel takes the dtypes, else in eager PyTorch.

    Parameters
    ----------
    queries : float[S, d]
        L2-normalized inside.
    items : float[R, d]
        The sample's rows of the item embedding; L2-normalized inside.
    targets : int64[S]
        Places of the next clicks among the R.
    sample : CatalogSample
    scale : float
        Factor on the cosine.
    gamma : float
        Exponent of the adaptive weight.
    weights : float[S], optional
        Multiplies each row's loss.
    compute_dtype : torch.dtype, optional
        Of the matrix products, accumulated in float32. Eager PyTorch takes it for the gradients' two products alone: of
        the logits it would round the sums too.
    threads : int, optional
        Of the kernel, which gives the same bits for every number; PyTorch's number by default.
    """
    rows = torch.full((len(queries),), 1 / max(len(queries), 1), dtype=queries.dtype)
    if weights is not None:
        rows = weights / torch.count_nonzero(weights).clamp_min(1)
    counted = torch.ones(len(items))
    counted[sample.sure :] = math.exp(sample.correction)
    request = LossRequest(queries, items, targets, scale, gamma, False, compute_dtype, threads, counted)
    if not native.not_supported_reasons(request):
        return native.weighted_sum(request, rows)
    settings = (sample.sure, sample.correction, scale, gamma, compute_dtype or queries.dtype)
    return _Mean.apply(
        functional.normalize(queries, dim=1), functional.normalize(items, dim=1), targets, rows, settings
    )


class _Mean(torch.autograd.Function):
    """sum of row_weight * loss; the gradients are made in the forward pass, while the exponentials are at hand."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, items: Tensor, targets: Tensor, row_weights: Tensor, settings: Any
    ) -> Tensor:
        sure, correction, scale, gamma, dtype = settings
        logits = queries @ items.T  # [S, R]
        logits *= scale
        to_target = logits.gather(1, targets[:, None])[:, 0]
        logits[:, sure:] += correction
        exponentials = logits.sub_(scale).exp_()  # a cosine is at most 1, so no maximum is needed
        total = exponentials.sum(dim=1)
        log_p = to_target - scale - total.log()
        loss = -_power(log_p, gamma) * log_p
        # dL/dz = c (softmax - onehot)
        c = row_weights * scale * _slope(log_p, gamma)
        gradient = exponentials.mul_((c / total)[:, None])
        gradient[torch.arange(len(targets)), targets] -= c
        gradient = gradient.to(dtype)
        ctx.save_for_backward(
            (gradient @ items.to(dtype)).to(items.dtype), (gradient.T @ queries.to(dtype)).to(items.dtype)
        )
        return (loss * row_weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        d_queries, d_items = ctx.saved_tensors
        return d_queries * above, d_items * above, None, None, None


def _power(log_p: Tensor, gamma: float) -> Tensor:
    """(2 - 2p)^gamma, by its own branch for gamma = 0."""
    if gamma == 0:
        return torch.ones_like(log_p)
    return (-2 * torch.expm1(log_p)).clamp_min(SMALLEST_BASE) ** gamma


def _slope(log_p: Tensor, gamma: float) -> Tensor:
    """c = (2 - 2p)^gamma - 2 gamma p (2 - 2p)^(gamma - 1) log p."""
    if gamma == 0:
        return torch.ones_like(log_p)
    base = (-2 * torch.expm1(log_p)).clamp_min(SMALLEST_BASE)
    return base**gamma - 2 * gamma * log_p.exp() * base ** (gamma - 1) * log_p
