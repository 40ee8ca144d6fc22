"""Launches of the Triton kernels of `negatives=True`: plain functions on tensors, as in `launchers.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mtaw_fast.kernels.aw_loss import configs
from mtaw_fast.kernels.aw_loss.launchers import SCALARS, blocks, knobs_of, options
from mtaw_fast.kernels.aw_loss.triton_kernels import gradients, negative_rows, negatives

ROWS = 256  # a program of the kernel with one loss a row: with 1024 it spills 4 bytes on sm_100
LIFT = 2.0**15  # t is at most 1: its largest entries are just below the largest fp16


@dataclass(frozen=True, slots=True)
class Lifted:
    """Factors on the vectors' sums in the kernel, divided out later. They are powers of two, which round nothing.

    max_slope: the largest slope of an item, in its row's units: gamma L(1/2) + 1 / (1 - 1/2).
    """

    t: float
    slope: float
    max_slope: float

    @classmethod
    def of(cls, gamma: float) -> Lifted:
        """Return the factors for gamma, the exponent of the adaptive weight."""
        max_slope = 2 * math.log(2) * gamma + 2
        return cls(LIFT, LIFT / 2.0 ** math.ceil(math.log2(max_slope)), max_slope)


@dataclass(frozen=True, slots=True)
class Rows:
    """The results of the first pass for each row, float32[B] except `largest`.

    largest: int32[B], the item with the largest exp(z - scale / 2) but the target, -1 if there is none. peaks: that
    exponential. rests: sum of all the others'. shifts, rhos: see triton_kernels/negatives.py.
    """

    largest: Tensor
    peaks: Tensor
    rests: Tensor
    target_cosines: Tensor
    shifts: Tensor
    rhos: Tensor


@dataclass(frozen=True, slots=True)
class Slopes:
    """Derivatives of a row's loss by its cosines, float32[B] each.

    They are t_i t + unit slope_i, except for the target and the largest item, which have their own.
    """

    t: Tensor
    unit: Tensor
    largest: Tensor
    target: Tensor


def largest_sums(
    queries: Tensor, items: Tensor, unit_queries: Tensor, unit_items: Tensor, targets: Tensor, scale: float,
    precision: str,
) -> Rows:  # fmt: skip
    """The first pass over the catalog."""
    (n_rows, d), n_items = queries.shape, len(items)
    launch = knobs_of(unit_items, d, precision).queries
    splits, tiles_a_split = configs.splits(n_rows, n_items, launch)
    split_largest, split_rests = (_empty(queries, splits, n_rows) for _ in range(2))
    split_numbers = torch.empty(splits, n_rows, dtype=torch.int32, device=queries.device)
    peaks, rests, target_cosines, shifts, rhos = (_empty(queries, n_rows) for _ in range(5))
    largest = torch.empty(n_rows, dtype=torch.int32, device=queries.device)
    with torch.cuda.device_of(queries):
        negatives.largest_sums[(blocks(n_rows, launch.rows), splits)](
            unit_queries, unit_items, targets, split_largest, split_numbers, split_rests,
            n_rows, n_items, tiles_a_split, scale * math.log2(math.e),
            **launch.cosines(unit_items.shape[1]), **options(launch),
        )  # fmt: skip
        negative_rows.finish_largest[(n_rows,)](
            queries, items, targets, split_largest, split_numbers, split_rests,
            peaks, largest, rests, target_cosines, shifts, rhos,
            n_rows, n_items, splits, scale, queries.stride(0), items.stride(0),
            D=d, COLUMNS=configs.power_of_two(d), SPLITS=configs.MAX_SPLITS, num_warps=1, enable_fp_fusion=True,
        )  # fmt: skip
    return Rows(largest, peaks, rests, target_cosines, shifts, rhos)


def negative_losses(
    unit_queries: Tensor, unit_items: Tensor, targets: Tensor, d: int, scale: float, gamma: float, rows: Rows,
    vectors: bool, precision: str,
) -> tuple[Tensor, Slopes, tuple[Tensor, Tensor] | None]:  # fmt: skip
    """The second pass over the catalog: losses float32[B], their slopes, and where `vectors` the items' unit vectors
    summed by t and by slope, float32[splits, B, width] each, lifted."""
    n_rows, (n_items, width) = len(targets), unit_items.shape
    launch, lifted, plain = knobs_of(unit_items, d, precision).negatives, Lifted.of(gamma), gamma == 0
    splits, tiles_a_split = configs.splits(n_rows, n_items, launch)
    split_losses, split_slopes = (_empty(unit_items, splits, n_rows) for _ in range(2))
    losses, *slopes = (_empty(unit_items, n_rows) for _ in range(5))
    sums = (_empty(unit_items, splits, n_rows, width), _empty(unit_items, splits, n_rows, width)) if vectors else None
    grid = (blocks(n_rows, launch.rows), splits, blocks(width, launch.columns) if vectors else 1)
    with torch.cuda.device_of(unit_items):
        negatives.negative_sums[grid](
            unit_queries, unit_items, targets, rows.largest, rows.shifts, rows.rhos, split_losses, split_slopes,
            *(sums or (split_losses, split_slopes)),
            n_rows, n_items, tiles_a_split, scale * math.log2(math.e), gamma, lifted.t, lifted.slope,
            VECTORS=vectors, PLAIN=plain, **launch.constants(width), **options(launch),
        )  # fmt: skip
        negative_rows.negative_rows[(blocks(n_rows, ROWS),)](
            rows.peaks, rows.rests, rows.target_cosines, rows.rhos, split_losses, split_slopes, losses, *slopes,
            n_rows, splits, scale, gamma,
            PLAIN=plain, ROWS=ROWS, num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return losses, Slopes(*slopes), sums


def query_gradients(
    queries: Tensor, items: Tensor, targets: Tensor, query_norms: Tensor, item_norms: Tensor,
    sums: tuple[Tensor, Tensor], largest: Tensor, slopes: Slopes, gamma: float, d_losses: Tensor,
) -> Tensor:  # fmt: skip
    """Gradient by the queries as given, in their dtype: [B, d]; no pass over the catalog.

    sums, slopes: of `negative_losses`. d_losses: float32[B].
    """
    (n_rows, d), (splits, _, width), lifted = queries.shape, sums[0].shape, Lifted.of(gamma)
    gradient = torch.empty(n_rows, d, dtype=queries.dtype, device=queries.device)
    with torch.cuda.device_of(queries):
        negative_rows.finish_negative_queries[(n_rows,)](
            *sums, d_losses, slopes.t, slopes.unit, slopes.largest, slopes.target,
            targets, largest, items, item_norms, queries, query_norms, gradient,
            n_rows, len(items), splits, 1 / lifted.t, 1 / lifted.slope, queries.stride(0), items.stride(0),
            D=d, WIDTH=width, **configs.split_tile(d), num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return gradient


def item_gradients(
    unit_queries: Tensor, unit_items: Tensor, items: Tensor, targets: Tensor, item_norms: Tensor,
    scale: float, gamma: float, rows: Rows, slopes: Slopes, d_losses: Tensor,
    precision: str,
) -> Tensor:  # fmt: skip
    """Gradient by the items as given, in their dtype: [N, d], by the third pass over the catalog."""
    n_rows, (n_items, d), width = len(targets), items.shape, unit_items.shape[1]
    launch = knobs_of(unit_items, d, precision).negative_items
    whole = d <= launch.columns
    factors = [torch.empty_like(d_losses) for _ in range(4)]
    unit = _empty(items, 1)
    gradient = torch.empty(n_items, d, dtype=items.dtype if whole else torch.float32, device=items.device)
    with torch.cuda.device_of(items):
        negative_rows.negative_scalars[(blocks(n_rows, SCALARS),)](
            d_losses, slopes.t, slopes.unit, slopes.largest, slopes.target, *factors, unit,
            n_rows, Lifted.of(gamma).max_slope, ROWS=SCALARS, num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
        negatives.negative_item_gradients[(blocks(n_items, launch.items), blocks(d, launch.columns))](
            unit_queries, unit_items, targets, rows.largest, rows.shifts, rows.rhos, *factors, unit,
            items, item_norms, gradient, n_rows, n_items, items.stride(0), scale * math.log2(math.e), gamma,
            D=d, PLAIN=gamma == 0, **launch.constants(width), **options(launch),
        )  # fmt: skip
        if whole:
            return gradient
        sums_of_columns, gradient = gradient, torch.empty(n_items, d, dtype=items.dtype, device=items.device)
        tile = configs.row_tile(d)
        gradients.finish_items[(blocks(n_items, tile["ROWS"]),)](
            sums_of_columns, unit, items, item_norms, gradient, n_items, items.stride(0),
            D=d, **tile, num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return gradient


def _empty(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(*shape, dtype=torch.float32, device=like.device)
