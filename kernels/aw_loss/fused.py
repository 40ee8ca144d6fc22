"""The AW loss in Triton: B x N never in memory, logits recomputed in the backward pass, no atomics.

Two differentiable steps. `catalog_sums` passes over the catalog (or a slice of it) and returns two numbers a row
that add up over slices; `loss_of_sums` makes the loss of them. README.md has the derivation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mtaw_fast.kernels import triton_device
from mtaw_fast.kernels.aw_loss.request import LossRequest

# launchers.py imports Triton, which need not be installed: it is imported where a kernel is about to run.

MAX_ROWS = (1 << 31) - 4096  # of queries and of items: row numbers are 32-bit, a tile beyond the last one included
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def not_supported_reasons(request: LossRequest) -> list[str]:
    """Return why this backend cannot take the request; empty if it can."""
    reasons = triton_device.not_supported_reasons(request.queries, request.items, request.targets)
    if request.queries.dtype not in _DTYPES or request.items.dtype not in _DTYPES:
        reasons.append("queries and items must be float32, bfloat16 or float16")
    if request.compute_dtype not in (None, *_DTYPES):
        reasons.append("compute_dtype must be float32, bfloat16 or float16")
    if 0 in (*request.queries.shape, *request.items.shape):
        reasons.append("there are no rows, no items or no columns")
    if max(len(request.queries), len(request.items)) > MAX_ROWS:
        reasons.append(f"there are more than {MAX_ROWS} rows or items (catalog_sums takes a catalog in slices)")
    return reasons


def aw_loss(request: LossRequest) -> Tensor:
    """Loss of every row, unweighted: float32[B]. A target outside 0..N-1 gives NaN."""
    if request.negatives:
        return _NegativeLosses.apply(
            request.queries, request.items, request.targets, request.scale, request.gamma, _compute_dtype(request),
            _asks_for_gradient(request.queries),
        )  # fmt: skip
    return loss_of_sums(*catalog_sums(request, 0, len(request.items)), request.scale, request.gamma)


def catalog_sums(request: LossRequest, first_item: int, catalog_size: int) -> tuple[Tensor, Tensor]:
    """(others, target_cosines), float32[B] each; see `slices.catalog_sums`."""
    return _CatalogSums.apply(
        request.queries, request.items, request.targets, request.scale, first_item, catalog_size,
        _compute_dtype(request), _asks_for_gradient(request.queries),
    )  # fmt: skip


def loss_of_sums(others: Tensor, target_cosines: Tensor, scale: float, gamma: float) -> Tensor:
    """Loss of every row, float32[B]; see `slices.loss_of_sums`."""
    return _RowLosses.apply(others, target_cosines, scale, gamma)


def _asks_for_gradient(queries: Tensor) -> bool:
    """Return whether a backward pass can need the queries' gradient, whose sums the forward pass makes."""
    return torch.is_grad_enabled() and queries.requires_grad


def _compute_dtype(request: LossRequest) -> torch.dtype:
    return request.compute_dtype or torch.promote_types(request.queries.dtype, request.items.dtype)


class _CatalogSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, items: Tensor, targets: Tensor, scale: float, first_item: int, catalog_size: int,
        dtype: torch.dtype, with_vectors: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        from mtaw_fast.kernels.aw_loss import launchers

        queries, items, targets = _rows_of_one_piece(queries), _rows_of_one_piece(items), targets.contiguous()
        where = launchers.Slice(first_item, catalog_size)
        unit_queries, query_norms = launchers.unit_rows(queries, dtype)
        unit_items, item_norms = launchers.unit_rows(items, dtype)
        ctx.precision = precision = launchers.float32_precision()
        sums = launchers.catalog_sums(
            queries, items, unit_queries, unit_items, targets, scale, where, with_vectors, precision
        )
        ctx.save_for_backward(
            queries, items, targets, unit_queries, unit_items, query_norms, item_norms, sums.others, sums.vectors
        )
        ctx.scale, ctx.where = scale, where
        return sums.others, sums.target_cosines

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_others: Tensor, d_cosines: Tensor) -> tuple[Tensor | None, ...]:
        from mtaw_fast.kernels.aw_loss import launchers

        queries, items, targets, unit_queries, unit_items, query_norms, item_norms, others, vectors = ctx.saved_tensors
        slopes = d_others.contiguous(), d_cosines.contiguous()
        by_queries = by_items = None
        if ctx.needs_input_grad[0]:
            by_queries = launchers.query_gradients(
                queries, items, targets, query_norms, item_norms, vectors, ctx.scale, ctx.where, *slopes
            )
        if ctx.needs_input_grad[1]:
            by_items = launchers.item_gradients(
                unit_queries,
                unit_items,
                items,
                targets,
                item_norms,
                ctx.scale,
                ctx.where,
                others,
                *slopes,
                ctx.precision,
            )
        return by_queries, by_items, None, None, None, None, None, None


class _RowLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, others: Tensor, target_cosines: Tensor, scale: float, gamma: float) -> Tensor:
        from mtaw_fast.kernels.aw_loss import launchers

        losses, others_slopes, cosine_slopes = launchers.row_losses(
            others.contiguous(), target_cosines.contiguous(), scale, gamma
        )
        ctx.save_for_backward(others_slopes, cosine_slopes)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_losses: Tensor) -> tuple[Tensor | None, ...]:
        others_slopes, cosine_slopes = ctx.saved_tensors
        return d_losses * others_slopes, d_losses * cosine_slopes, None, None


class _NegativeLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, items: Tensor, targets: Tensor, scale: float, gamma: float, dtype: torch.dtype,
        with_vectors: bool,
    ) -> Tensor:  # fmt: skip
        from mtaw_fast.kernels.aw_loss import launchers, negative_launchers

        queries, items, targets = _rows_of_one_piece(queries), _rows_of_one_piece(items), targets.contiguous()
        unit_queries, query_norms = launchers.unit_rows(queries, dtype)
        unit_items, item_norms = launchers.unit_rows(items, dtype)
        ctx.precision = precision = launchers.float32_precision()
        rows = negative_launchers.largest_sums(queries, items, unit_queries, unit_items, targets, scale, precision)
        losses, slopes, sums = negative_launchers.negative_losses(
            unit_queries, unit_items, targets, queries.shape[1], scale, gamma, rows, with_vectors, precision
        )
        ctx.save_for_backward(queries, items, targets, unit_queries, unit_items, query_norms, item_norms)
        # Made here and used nowhere else: keeping them cannot break a graph.
        ctx.rows, ctx.slopes, ctx.sums, ctx.scale, ctx.gamma = rows, slopes, sums, scale, gamma
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_losses: Tensor) -> tuple[Tensor | None, ...]:
        from mtaw_fast.kernels.aw_loss import negative_launchers

        queries, items, targets, unit_queries, unit_items, query_norms, item_norms = ctx.saved_tensors
        d_losses = d_losses.contiguous()
        by_queries = by_items = None
        if ctx.needs_input_grad[0]:
            by_queries = negative_launchers.query_gradients(
                queries, items, targets, query_norms, item_norms, ctx.sums, ctx.rows.largest, ctx.slopes, ctx.gamma,
                d_losses,
            )  # fmt: skip
        if ctx.needs_input_grad[1]:
            by_items = negative_launchers.item_gradients(
                unit_queries, unit_items, items, targets, item_norms, ctx.scale, ctx.gamma, ctx.rows, ctx.slopes,
                d_losses, ctx.precision,
            )  # fmt: skip
        return by_queries, by_items, None, None, None, None, None


def _rows_of_one_piece(matrix: Tensor) -> Tensor:
    """Return the matrix itself if a row's entries are contiguous (rows may be any distance apart), else a copy."""
    return matrix if matrix.stride(1) == 1 or matrix.shape[1] == 1 else matrix.contiguous()
