"""Launches of the Triton kernels: plain functions on tensors, each allocating what it returns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mtaw_fast.kernels.aw_loss import configs
from mtaw_fast.kernels.aw_loss.triton_kernels import gradients, rows, sums, units

SCALARS = 1024  # rows a program of the kernels with one scalar a row
_LABELS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True, slots=True)
class Slice:
    """The slice of a call's items: the first one's number in the catalog, and how many items the catalog has."""

    first_item: int
    catalog_size: int


def unit_rows(vectors: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows of float[R, d] over their norms, [R, configs.width(d)] in `dtype` with zeros behind, and the inverse norms
    float32[R]."""
    n_rows, d = vectors.shape
    unit = torch.empty(n_rows, configs.width(d), dtype=dtype, device=vectors.device)
    inverse_norms = torch.empty(n_rows, dtype=torch.float32, device=vectors.device)
    tile = configs.row_tile(d)
    grid = (blocks(n_rows, tile["ROWS"]),)
    with torch.cuda.device_of(vectors):
        units.unit_rows[grid](
            vectors, unit, inverse_norms, n_rows, vectors.stride(0),
            D=d, WIDTH=unit.shape[1], **tile, num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return unit, inverse_norms


@dataclass(frozen=True, slots=True)
class Sums:
    """What a pass over the catalog leaves of every row.

    others: float32[B], sum of exp(z - scale / 2) over the items but the target. target_cosines: float32[B].
    vectors: float32[splits, B, width], the items' unit vectors summed with those weights; None if not requested.
    """

    others: Tensor
    target_cosines: Tensor
    vectors: Tensor | None


def catalog_sums(
    queries: Tensor,
    items: Tensor,
    unit_queries: Tensor,
    unit_items: Tensor,
    targets: Tensor,
    scale: float,
    where: Slice,
    vectors: bool,
    precision: str,
) -> Sums:
    """Run the forward pass.

    vectors: whether the queries' gradient will be needed; `others` has the same bits either way. precision: the result
    of `float32_precision`.
    """
    (n_rows, d), n_items, width = queries.shape, *unit_items.shape
    launch = knobs_of(unit_items, d, precision).queries
    splits, tiles_a_split = configs.splits(n_rows, n_items, launch)

    def empty(*shape: int) -> Tensor:
        return torch.empty(*shape, dtype=torch.float32, device=queries.device)

    partials, others, target_cosines = empty(splits, n_rows), empty(n_rows), empty(n_rows)
    vector_sums = empty(splits, n_rows, width) if vectors else None
    grid = (blocks(n_rows, launch.rows), splits, blocks(width, launch.columns) if vectors else 1)
    with torch.cuda.device_of(queries):
        sums.partial_sums[grid](
            unit_queries, unit_items, targets,
            partials, partials if vector_sums is None else vector_sums,
            n_rows, n_items, where.first_item, tiles_a_split, scale * math.log2(math.e),
            VECTORS=vectors, **launch.constants(width), **options(launch),
        )  # fmt: skip
        sums.finish_sums[(n_rows,)](
            queries, items, targets, partials, others, target_cosines,
            n_rows, n_items, where.first_item, where.catalog_size, splits, queries.stride(0), items.stride(0),
            D=d, COLUMNS=configs.power_of_two(d), SPLITS=configs.MAX_SPLITS, num_warps=1, enable_fp_fusion=True,
        )  # fmt: skip
    return Sums(others, target_cosines, vector_sums)


def row_losses(others: Tensor, target_cosines: Tensor, scale: float, gamma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Every row's loss and its derivatives by `others` and by the target's cosine: float32[B] each."""
    n_rows = len(others)
    losses, others_slopes, cosine_slopes = (torch.empty_like(others) for _ in range(3))
    with torch.cuda.device_of(others):
        rows.row_losses[(blocks(n_rows, SCALARS),)](
            others, target_cosines, losses, others_slopes, cosine_slopes, n_rows, scale, gamma,
            PLAIN=gamma == 0, ROWS=SCALARS, num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return losses, others_slopes, cosine_slopes


def query_gradients(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    query_norms: Tensor,
    item_norms: Tensor,
    vectors: Tensor,
    scale: float,
    where: Slice,
    d_others: Tensor,
    d_cosines: Tensor,
) -> Tensor:
    """Gradient by the queries as given, in their dtype: [B, d]; no pass over the catalog.

    query_norms, item_norms: of `unit_rows`. vectors: of `Sums`. d_others, d_cosines: float32[B], gradients by the
    results of catalog_sums.
    """
    (n_rows, d), (splits, _, width) = queries.shape, vectors.shape
    gradient = torch.empty(n_rows, d, dtype=queries.dtype, device=queries.device)
    with torch.cuda.device_of(queries):
        gradients.finish_queries[(n_rows,)](
            vectors, d_others, d_cosines, targets, items, item_norms, queries, query_norms, gradient,
            n_rows, len(items), where.first_item, splits, scale, queries.stride(0), items.stride(0),
            D=d, WIDTH=width, **configs.split_tile(d), num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return gradient


def item_gradients(
    unit_queries: Tensor,
    unit_items: Tensor,
    items: Tensor,
    targets: Tensor,
    item_norms: Tensor,
    scale: float,
    where: Slice,
    others: Tensor,
    d_others: Tensor,
    d_cosines: Tensor,
    precision: str,
) -> Tensor:
    """Gradient by the items as given, in their dtype: [N, d], by the second pass over the catalog.

    item_norms: from `unit_rows`. others: from `Sums`. d_others, d_cosines: float32[B], gradients by the results of
    catalog_sums.
    """
    n_rows, (n_items, d), width = len(targets), items.shape, unit_items.shape[1]
    launch = knobs_of(unit_items, d, precision).items
    whole = d <= launch.columns
    grid = (blocks(n_items, launch.items), blocks(d, launch.columns))
    factors, target_entries = torch.empty_like(others), torch.empty_like(others)
    unit = torch.empty(1, dtype=torch.float32, device=others.device)
    gradient = torch.empty(n_items, d, dtype=items.dtype if whole else torch.float32, device=items.device)
    with torch.cuda.device_of(items):
        rows.gradient_scalars[(blocks(n_rows, SCALARS),)](
            d_others, d_cosines, others, factors, target_entries, unit, n_rows, scale,
            ROWS=SCALARS, num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
        gradients.item_gradients[grid](
            unit_queries, unit_items, targets,
            factors, target_entries, unit, items, item_norms, gradient,
            n_rows, n_items, where.first_item, items.stride(0), scale * math.log2(math.e),
            D=d, **launch.constants(width), **options(launch),
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


def float32_precision() -> str:
    """Return the PRECISION of float32 products: 'tf32x3' if torch.set_float32_matmul_precision is 'high' or less, else
    'ieee'."""
    cut = torch.version.hip is None and torch.get_float32_matmul_precision() != "highest"
    return "tf32x3" if cut else "ieee"


def knobs_of(unit_items: Tensor, d: int, precision: str) -> configs.Knobs:
    """Return the launch settings for products of these unit vectors."""
    label = _LABELS[unit_items.dtype]
    if label == "fp32" and precision != "ieee":
        label = precision
    return configs.knobs(d, label, "cuda" if torch.version.hip is None else "hip")


def blocks(n: int, size: int) -> int:
    """Return how many blocks of `size` n needs."""
    return -(-n // size)


def options(launch: configs.Launch) -> dict[str, int | bool]:
    """Return the settings of a launch that Triton itself takes."""
    return {"num_warps": launch.warps, "num_stages": launch.stages, "enable_fp_fusion": True}
