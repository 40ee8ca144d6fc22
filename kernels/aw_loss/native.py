"""The AW loss in C++ for CPUs (`kernels/native/loss`): forward and backward over tiles, three matrix products a step.

The gradients of a weighted sum of rows are made in the forward pass, while the exponentials are at hand, and the
backward pass multiplies them by what comes from above. Row losses that anything may be done with (`reduction='none'`)
learn their weights only in the backward pass, which then starts over: four products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mtaw_fast.kernels.aw_loss.request import LossRequest
from mtaw_fast.kernels.native import loss as native_loss

_KEPT_FROM = 1 << 20  # bytes; smaller ones malloc keeps by itself


def not_supported_reasons(request: LossRequest) -> list[str]:
    """Return why this backend cannot take the request; empty if it can."""
    reasons = []
    if request.negatives and request.gamma > native_loss.MAX_GAMMA:
        reasons.append(f"gamma must be at most {native_loss.MAX_GAMMA:g} with negatives=True")
    if any(tensor.device.type != "cpu" for tensor in (request.queries, request.items, request.targets)):
        reasons.append("queries, items and targets must be on the CPU")
    if request.queries.dtype != torch.float32 or request.items.dtype != torch.float32:
        reasons.append("queries and items must be float32")
    if request.compute_dtype not in (None, torch.float32, torch.bfloat16):
        reasons.append("compute_dtype must be float32 or bfloat16")
    if request.compute_dtype == torch.bfloat16 and not native_loss.multiplies_bfloat16():
        reasons.append("this CPU has no bfloat16 instructions (AVX-512 BF16 or AMX)")
    return reasons


def aw_loss(request: LossRequest) -> Tensor:
    """Loss of every row, unweighted: float32[B]."""
    return _RowLosses.apply(request.queries, request.items, request)


def weighted_sum(request: LossRequest, row_weights: Tensor) -> Tensor:
    """sum over rows of row_weights[b] * loss[b]: float32 scalar. row_weights: float32[B], without gradient."""
    return _WeightedSum.apply(request.queries, request.items, row_weights, request)


class _RowLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, request: LossRequest) -> Tensor:
        ctx.save_for_backward(queries, items)
        ctx.request = request
        losses, _, _ = _run(queries, items, queries.new_zeros(len(queries)), request, (False, False))
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses: Tensor) -> tuple[Tensor | None, ...]:
        queries, items = ctx.saved_tensors
        _, d_queries, d_items = _run(queries, items, grad_losses, ctx.request, ctx.needs_input_grad[:2])
        return d_queries, d_items, None


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, row_weights: Tensor, request: LossRequest) -> Tensor:
        losses, *gradients = _run(queries, items, row_weights, request, ctx.needs_input_grad[:2])
        ctx.gradients = gradients
        return (losses * row_weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sum: Tensor) -> tuple[Tensor | None, ...]:
        # Let go of, so that autograd can take the gradients over instead of copying them.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("aw_loss: a second backward pass; call aw_loss again, or use reduction='none'")
        if grad_sum.item() != 1.0:
            gradients = [gradient if gradient is None else gradient.mul_(grad_sum) for gradient in gradients]
        return (*gradients, None, None)


def _empty_like(tensor: Tensor) -> Tensor:
    """Return memory for a gradient; a large one where the last one was, since fresh pages cost as much as a product."""
    if tensor.nbytes < _KEPT_FROM:
        return tensor.new_empty(tensor.shape)
    return torch.from_numpy(native_loss.kept_matrix(*tensor.shape))


def _run(
    queries: Tensor, items: Tensor, row_weights: Tensor, request: LossRequest, needed: tuple[bool, ...]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return row losses and the needed gradients of their weighted sum."""
    losses = queries.new_empty(len(queries))
    d_queries, d_items = (
        _empty_like(tensor) if is_needed else None for tensor, is_needed in zip((queries, items), needed, strict=True)
    )
    arrays = [t.detach().contiguous().numpy() for t in (queries, items, request.targets, row_weights.float())]
    native_loss.aw_loss(
        *arrays,
        scale=request.scale,
        gamma=request.gamma,
        negatives=request.negatives,
        item_weights=None if request.item_weights is None else request.item_weights.numpy(),
        loss=losses.numpy(),
        d_queries=None if d_queries is None else d_queries.numpy(),
        d_items=None if d_items is None else d_items.numpy(),
        compute="bfloat16" if request.compute_dtype == torch.bfloat16 else "float32",
        threads=torch.get_num_threads() if request.threads is None else request.threads,
    )
    return losses, d_queries, d_items
