"""Launches of the Triton kernels: plain functions on tensors, each allocating what it returns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mtaw_fast.kernels.aw_loss import configs
from mtaw_fast.kernels.aw_loss.reference import SMALLEST_BASE
from mtaw_fast.kernels.aw_loss.triton_kernels import gradients, rows, sums, units

SCALARS = 1024  # rows a program of the kernels with one scalar a row
_LABELS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True, slots=True)
class Slice:
    """Where the items of a call stand in the catalog: the first one's number, and how many the whole catalog has."""

    first_item: int
    catalog_size: int


def unit_rows(vectors: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows of float[R, d] over their norms, in `dtype`, and the inverse norms float32[R]."""
    n_rows, d = vectors.shape
    unit = torch.empty(n_rows, d, dtype=dtype, device=vectors.device)
    inverse_norms = torch.empty(n_rows, dtype=torch.float32, device=vectors.device)
    tile = configs.row_tile(d)
    grid = (_blocks(n_rows, tile["ROWS"]),)
    with torch.cuda.device_of(vectors):
        units.unit_rows[grid](
            vectors, unit, inverse_norms, n_rows, vectors.stride(0), D=d, **tile, num_warps=4, enable_fp_fusion=True
        )
    return unit, inverse_norms


def catalog_sums(
    queries: Tensor,
    items: Tensor,
    unit_queries: Tensor,
    unit_items: Tensor,
    targets: Tensor,
    scale: float,
    where: Slice,
) -> tuple[Tensor, Tensor]:
    """(sum of exp(z - scale / 2) over the items but the target, the target's cosine), float32[B] each."""
    (n_rows, d), n_items = queries.shape, len(items)
    launch = configs.knobs(d, _LABELS[unit_items.dtype], _backend()).sums
    splits, tiles_a_split = configs.splits(n_rows, n_items, launch)
    partials, others, target_cosines = (
        torch.empty(*shape, dtype=torch.float32, device=queries.device)
        for shape in ((splits, n_rows), (n_rows,), (n_rows,))
    )
    with torch.cuda.device_of(queries):
        sums.partial_sums[(_blocks(n_rows, launch.rows), splits)](
            unit_queries, unit_items, targets, partials, n_rows, n_items, where.first_item, tiles_a_split,
            scale * math.log2(math.e), **launch.constants(d, gradient=False), **_options(launch),
        )  # fmt: skip
        sums.finish_sums[(n_rows,)](
            queries, items, targets, partials, others, target_cosines,
            n_rows, n_items, where.first_item, where.catalog_size, splits, queries.stride(0), items.stride(0),
            D=d, COLUMNS=configs.power_of_two(d), SPLITS=configs.MAX_SPLITS, num_warps=1, enable_fp_fusion=True,
        )  # fmt: skip
    return others, target_cosines


def row_losses(others: Tensor, target_cosines: Tensor, scale: float, gamma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Every row's loss and its derivatives by `others` and by the target's cosine: float32[B] each."""
    n_rows = len(others)
    losses, others_slopes, cosine_slopes = (torch.empty_like(others) for _ in range(3))
    with torch.cuda.device_of(others):
        rows.row_losses[(_blocks(n_rows, SCALARS),)](
            others, target_cosines, losses, others_slopes, cosine_slopes, n_rows, scale, gamma, SMALLEST_BASE,
            PLAIN=gamma == 0, ROWS=SCALARS, num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return losses, others_slopes, cosine_slopes


@dataclass(frozen=True, slots=True)
class Gradients:
    """The backward pass of `catalog_sums`: its scalars are made once, then each side is asked for as needed.

    d_others, d_cosines: float32[B], gradients by the results of catalog_sums.
    """

    unit_queries: Tensor
    unit_items: Tensor
    targets: Tensor
    scale: float
    where: Slice
    factors: Tensor
    target_entries: Tensor
    unit: Tensor

    @classmethod
    def prepare(
        cls, unit_queries: Tensor, unit_items: Tensor, targets: Tensor, scale: float, where: Slice,
        others: Tensor, d_others: Tensor, d_cosines: Tensor,
    ) -> Gradients:  # fmt: skip
        """Make the rows' scalars."""
        n_rows = len(targets)
        factors, target_entries, unit = (
            torch.empty_like(others),
            torch.empty_like(others),
            torch.empty(1, dtype=torch.float32, device=others.device),
        )
        with torch.cuda.device_of(others):
            rows.gradient_scalars[(_blocks(n_rows, SCALARS),)](
                d_others, d_cosines, others, factors, target_entries, unit, n_rows, scale,
                ROWS=SCALARS, num_warps=4, enable_fp_fusion=True,
            )  # fmt: skip
        return cls(unit_queries, unit_items, targets, scale, where, factors, target_entries, unit)

    def by_queries(self, queries: Tensor, inverse_norms: Tensor) -> Tensor:
        """Gradient by the queries as given, in their dtype: [B, d]."""
        (n_rows, d), n_items = queries.shape, len(self.unit_items)
        launch = configs.knobs(d, _LABELS[self.unit_items.dtype], _backend()).queries
        splits, tiles_a_split = configs.splits(n_rows, n_items, launch)
        partials = torch.empty(splits, n_rows, d, dtype=torch.float32, device=queries.device)
        with torch.cuda.device_of(queries):
            gradients.query_gradients[(_blocks(n_rows, launch.rows), splits, _blocks(d, launch.columns))](
                self.unit_queries, self.unit_items, self.targets, self.factors, self.target_entries, partials,
                n_rows, n_items, self.where.first_item, tiles_a_split, self.scale * math.log2(math.e),
                **launch.constants(d), **_options(launch),
            )  # fmt: skip
        return self._finish(partials, queries, inverse_norms)

    def by_items(self, items: Tensor, inverse_norms: Tensor) -> Tensor:
        """Gradient by the items as given, in their dtype: [N, d]."""
        n_rows, (n_items, d) = len(self.targets), items.shape
        launch = configs.knobs(d, _LABELS[self.unit_items.dtype], _backend()).items
        whole = d <= launch.columns
        gradient = torch.empty(n_items, d, dtype=items.dtype if whole else torch.float32, device=items.device)
        with torch.cuda.device_of(items):
            gradients.item_gradients[(_blocks(n_items, launch.items), _blocks(d, launch.columns))](
                self.unit_queries, self.unit_items, self.targets, self.factors, self.target_entries, self.unit,
                items, inverse_norms, gradient,
                n_rows, n_items, self.where.first_item, items.stride(0), self.scale * math.log2(math.e),
                **launch.constants(d), **_options(launch),
            )  # fmt: skip
        return gradient if whole else self._finish(gradient[None], items, inverse_norms)

    def _finish(self, partials: Tensor, vectors: Tensor, inverse_norms: Tensor) -> Tensor:
        splits, n_rows, d = partials.shape
        gradient = torch.empty(n_rows, d, dtype=vectors.dtype, device=vectors.device)
        with torch.cuda.device_of(vectors):
            gradients.finish_gradients[(n_rows,)](
                partials, self.unit, vectors, inverse_norms, gradient, n_rows, splits, vectors.stride(0),
                D=d, **configs.split_tile(d), num_warps=4, enable_fp_fusion=True,
            )  # fmt: skip
        return gradient


def _blocks(n: int, size: int) -> int:
    return -(-n // size)


def _options(launch: configs.Launch) -> dict[str, int | bool]:
    return {"num_warps": launch.warps, "num_stages": launch.stages, "enable_fp_fusion": True}


def _backend() -> str:
    return "cuda" if torch.version.hip is None else "hip"
