"""The AW loss over a sample of the catalog, with an unbiased estimate of the partition sum.

Some items are always in the sum: those of the batch (its clicks and targets) and others that the caller names. Of the
rest a number are drawn uniformly without replacement. So the probability that an item is in the sum is known: 1, or
drawn / others. Its log is subtracted from the item's logit (the logQ correction), so the expected sum is the partition
sum of the whole catalog. A target is in the sum exactly once: no draw can hit it. Only the sum is estimated. With all
others drawn, loss and gradients are those of the full softmax.

Axes: S samples, N items, R rows of the item embedding that take part, d.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mtaw_fast.kernels.aw_loss import native
from mtaw_fast.kernels.aw_loss.reference import adaptive_weight, row_scalar
from mtaw_fast.kernels.aw_loss.request import LossRequest
from mtaw_fast.training.steps.negative_sampling import CatalogSample


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
    """Return the mean AW loss of `kernels.aw_loss`, float[], with the partition sum of the sample.

    Runs in C++ if the kernel takes the dtypes, else in eager PyTorch.

    items: float[R, d], the sample's rows of the item embedding. targets: int64[S], rows of the next clicks among them.
    compute_dtype: of the matrix products, accumulated in float32. Eager PyTorch uses it only for the two products of
        the gradients: for the logits it would round the sums too.
    threads: of the kernel, which gives the same bits for every number; PyTorch's number by default.
    The other parameters are those of `aw_loss`.
    """
    rows = torch.full((len(queries),), 1 / max(len(queries), 1), dtype=queries.dtype)
    if weights is not None:
        rows = weights / torch.count_nonzero(weights).clamp_min(1)
    counts = torch.ones(len(items))
    counts[sample.always :] = math.exp(sample.correction)
    request = LossRequest(queries, items, targets, scale, gamma, False, compute_dtype, threads, counts)
    if not native.not_supported_reasons(request):
        return native.weighted_sum(request, rows)
    settings = (sample.always, sample.correction, scale, gamma, compute_dtype or queries.dtype)
    return _Mean.apply(
        functional.normalize(queries, dim=1), functional.normalize(items, dim=1), targets, rows, settings
    )


class _Mean(torch.autograd.Function):
    """The sum of row_weight * loss. The forward pass computes the gradients, from the same exponentials."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, items: Tensor, targets: Tensor, row_weights: Tensor, settings: Any
    ) -> Tensor:
        always, correction, scale, gamma, dtype = settings
        logits = queries @ items.T  # [S, R]
        logits *= scale
        to_target = logits.gather(1, targets[:, None])[:, 0]
        logits[:, always:] += correction
        exponentials = logits.sub_(scale).exp_()  # a cosine is at most 1, so no maximum is needed
        of_target = exponentials.gather(1, targets[:, None])[:, 0]
        others = exponentials.scatter_(1, targets[:, None], 0.0).sum(dim=1)
        log_odds = to_target - scale - others.log()
        loss = -adaptive_weight(log_odds, gamma) * functional.logsigmoid(log_odds)
        # dL/dz = c (softmax - onehot)
        c = row_weights * scale * row_scalar(log_odds, gamma)
        gradient = exponentials.mul_((c / (others + of_target))[:, None])
        gradient[torch.arange(len(targets)), targets] = -c * log_odds.neg().sigmoid()
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
