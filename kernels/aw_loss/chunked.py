"""The AW loss in plain PyTorch, whole or in slices of the catalog (`catalog_sums`, `loss_of_sums`), on any device.

What each number is, and why two a row are enough, is in README.md ("The Triton form"). Tiles of ROWS x ITEMS logits
are made and freed one after the other: in addition to its results it takes the memory of a tile and of ITEMS vectors,
whatever the slice. Every sum has one order, so the same bits come out on every run; sums over tiles are float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mtaw_fast.kernels.aw_loss.request import LossRequest
from mtaw_fast.kernels.scatter import add_rows

# Of a tile. In float32 that is 8 MB, which malloc keeps: tiles of 32,768 items need fresh pages each time and take
# 1.7 times the processor time in bfloat16, 1.2 times in float32 (B = 1,024, n = 20,363, d = 100, Zen 5).
ROWS = 256
ITEMS = 1 << 13
_DTYPES = (torch.float32, torch.float64)
_SMALLEST_NORM = 1e-12  # torch.nn.functional.normalize's


def not_supported_reasons(request: LossRequest) -> list[str]:
    """Return why this backend cannot take the request; empty if it can."""
    reasons = []
    queries, items = request.queries, request.items
    if request.negatives:
        reasons.append("it has no negatives=True")
    if queries.dtype != items.dtype or queries.dtype not in _DTYPES:
        reasons.append("queries and items must be float32, or both float64")
    if request.compute_dtype not in (None, queries.dtype, torch.bfloat16):
        reasons.append("compute_dtype must be that of the queries, or bfloat16")
    return reasons


def aw_loss(request: LossRequest) -> Tensor:
    """Loss of every row, unweighted: float[B]. A target outside 0..N-1 gives NaN."""
    return loss_of_sums(*catalog_sums(request, 0, len(request.items)), request.scale, request.gamma)


def catalog_sums(request: LossRequest, first_item: int, catalog_size: int) -> tuple[Tensor, Tensor]:
    """(others, target_cosines), each [B] in the queries' dtype; see `slices.catalog_sums`."""
    dtype = request.compute_dtype or request.queries.dtype
    return _CatalogSums.apply(
        request.queries, request.items, request.targets, request.scale, first_item, catalog_size, dtype
    )


def loss_of_sums(others: Tensor, target_cosines: Tensor, scale: float, gamma: float) -> Tensor:
    """Loss of every row, [B]; see `slices.loss_of_sums`."""
    return _RowLosses.apply(others, target_cosines, scale, gamma)


class _CatalogSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, items: Tensor, targets: Tensor, scale: float, first_item: int, catalog_size: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        query_norms = _inverse_norms(queries)
        unit_queries = queries * query_norms
        scaled = (scale * unit_queries).to(dtype)
        in_slice, target_indices = _targets_here(targets, first_item, len(items))
        with_vectors = ctx.needs_input_grad[0]
        others = queries.new_zeros(len(queries), dtype=torch.float64)
        vectors = torch.zeros_like(queries) if with_vectors else queries.new_empty(0)
        for block in _blocks(len(items), ITEMS):
            units = _unit_rows(items[block]).to(dtype)
            for rows in _blocks(len(queries), ROWS):
                exps = _exps(scaled[rows], units, in_slice[rows], target_indices[rows] - block.start)
                others[rows] += exps.sum(dim=1, dtype=_sum_dtype(dtype))
                if with_vectors:
                    vectors[rows] += exps @ units
        others *= math.exp(-scale / 2)
        vectors *= math.exp(-scale / 2)
        target_units = _target_units(items, in_slice, target_indices)
        cosines = (unit_queries * target_units).sum(dim=1)
        cosines = torch.where((targets >= 0) & (targets < catalog_size), cosines, torch.nan)
        ctx.save_for_backward(queries, query_norms, items, in_slice, target_indices, vectors)
        ctx.scale, ctx.dtype = scale, dtype
        return others.to(queries.dtype), cosines

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_others: Tensor, d_cosines: Tensor) -> tuple[Tensor | None, ...]:
        queries, query_norms, items, in_slice, target_indices, vectors = ctx.saved_tensors
        scale, dtype = ctx.scale, ctx.dtype
        unit_queries = queries * query_norms
        d_cosines = torch.where(in_slice, d_cosines, 0.0)
        by_queries = by_items = None
        if ctx.needs_input_grad[0]:
            d_units = vectors * (scale * d_others)[:, None]
            d_units += _target_units(items, in_slice, target_indices) * d_cosines[:, None]
            by_queries = _through_norm(d_units, unit_queries, query_norms)
        if ctx.needs_input_grad[1]:
            scaled = (scale * unit_queries).to(dtype)
            # The rows' scalars go into the small operand. They may be far below the range of bfloat16's neighbors, but
            # not below its exponent, which is float32's.
            weighted = ((scale * math.exp(-scale / 2) * d_others)[:, None] * unit_queries).to(dtype)
            at_targets = unit_queries * d_cosines[:, None]
            by_items = torch.empty_like(items)
            for block in _blocks(len(items), ITEMS):
                norms = _inverse_norms(items[block])
                units = items[block] * norms
                low, d_units = units.to(dtype), torch.zeros_like(units)
                for rows in _blocks(len(queries), ROWS):
                    exps = _exps(scaled[rows], low, in_slice[rows], target_indices[rows] - block.start)
                    d_units += exps.T @ weighted[rows]
                inside = (in_slice & (target_indices >= block.start) & (target_indices < block.stop)).nonzero()[:, 0]
                add_rows(d_units, target_indices[inside] - block.start, at_targets[inside])
                by_items[block] = _through_norm(d_units, units, norms)
        return by_queries, by_items, None, None, None, None, None


class _RowLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, others: Tensor, target_cosines: Tensor, scale: float, gamma: float) -> Tensor:
        dtype, others, target_cosines = others.dtype, others.double(), target_cosines.double()  # a scalar a row
        target = ((target_cosines - 0.5) * scale).exp()
        total, ratio = others + target, others / target
        log_p = -torch.log1p(ratio)
        miss = others / total
        base = 2 * miss
        if gamma == 0:
            weight = slope = torch.ones_like(base)
        else:
            weight = base**gamma
            bend = 2 * gamma * (target / total) * base ** (gamma - 1) * log_p
            slope = weight - torch.where(base > 0, bend, 0.0)
        ctx.save_for_backward((slope / total).to(dtype), (-slope * scale * miss).to(dtype))
        return (-weight * log_p).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_losses: Tensor) -> tuple[Tensor | None, ...]:
        others_slopes, cosine_slopes = ctx.saved_tensors
        return d_losses * others_slopes, d_losses * cosine_slopes, None, None


def _blocks(count: int, size: int) -> Iterator[slice]:
    return (slice(begin, min(begin + size, count)) for begin in range(0, count, size))


def _exps(scaled: Tensor, units: Tensor, in_slice: Tensor, target_indices: Tensor) -> Tensor:
    """exp(z) of a tile, 0 at each row's target: [rows, items] in the dtype of the products."""
    exps = (scaled @ units.T).exp_()
    rows = (in_slice & (target_indices >= 0) & (target_indices < len(units))).nonzero()[:, 0]
    exps[rows, target_indices[rows]] = 0
    return exps


def _sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a tile's row is added up in: float64 would first write the whole tile so, float32 keeps 16 digits more than
    bfloat16 has."""
    return torch.float32 if dtype == torch.bfloat16 else dtype


def _targets_here(targets: Tensor, first_item: int, count: int) -> tuple[Tensor, Tensor]:
    """bool[B] and int64[B]: whether a row's target is in the slice, and its index there (0 if it is not)."""
    target_indices = targets - first_item
    in_slice = (target_indices >= 0) & (target_indices < count)
    return in_slice, torch.where(in_slice, target_indices, 0)


def _target_units(items: Tensor, in_slice: Tensor, target_indices: Tensor) -> Tensor:
    """The targets' unit vectors, 0 where they are in another slice: [B, d]."""
    if len(items) == 0:
        return items.new_zeros(len(target_indices), items.shape[1])
    return _unit_rows(items[target_indices]) * in_slice[:, None]


def _unit_rows(vectors: Tensor) -> Tensor:
    return vectors * _inverse_norms(vectors)


def _inverse_norms(vectors: Tensor) -> Tensor:
    """Return 1 / |v| of each row: [n, 1]."""
    return torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min(_SMALLEST_NORM).reciprocal()


def _through_norm(gradient: Tensor, unit: Tensor, inverse_norm: Tensor) -> Tensor:
    """Return the gradient with respect to v of a function of unit = v / |v|."""
    along = (gradient * unit).sum(dim=1, keepdim=True)
    return gradient.addcmul_(unit, along, value=-1.0).mul_(inverse_norm)
