"""The loss of a catalog that is cut into slices, one a device: each slice's sums, and the loss of the sums."""

from __future__ import annotations

import torch
from torch import Tensor

from mtaw_fast.errors import UsageError
from mtaw_fast.kernels import dispatch
from mtaw_fast.kernels.aw_loss import chunked, fused
from mtaw_fast.kernels.aw_loss.request import LossRequest

BACKENDS = {"triton": fused, "chunked": chunked}  # fastest first


def catalog_sums(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    *,
    scale: float,
    first_item: int,
    catalog_size: int,
    compute_dtype: torch.dtype | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """What a slice of the catalog adds to the loss.

    Parameters
    ----------
    queries : float[B, d]
        The same for every slice.
    items : float[n, d]
        The items first_item .. first_item + n - 1.
    targets : int64[B]
        Numbers in the whole catalog.
    scale : float
        As in `aw_loss`.
    first_item : int
        Where the slice begins.
    catalog_size : int
        How many items the whole catalog has.
    compute_dtype : torch.dtype, optional
        As in `aw_loss`.
    backend : {'auto', 'triton', 'chunked'}, default 'auto'
        'auto' takes the first that can.

    Returns
    -------
    others : float[B]
        The sum of exp(z - scale / 2) over the slice's items but the row's target.
    target_cosines : float[B]
        cos(q, e_target), 0 where the target is in another slice.

    Both combine by addition; `loss_of_sums` of the sums is the loss. Differentiable by queries and items: the slices'
    gradients by queries add up likewise, and each slice gets its own items' gradient.

    Raises
    ------
    UsageError
        On malformed arguments.
    UnsupportedError
        Where no backend takes them.
    """
    request = LossRequest(queries, items, targets, float(scale), 0.0, False, compute_dtype)
    if first_item < 0 or first_item + len(items) > catalog_size:
        last = first_item + len(items) - 1
        raise UsageError(f"catalog_sums: items {first_item}..{last} are not within a catalog of {catalog_size}")
    chosen = BACKENDS[dispatch.choose_backend("catalog_sums", BACKENDS, request, backend)]
    return chosen.catalog_sums(request, first_item, catalog_size)


def loss_of_sums(
    others: Tensor, target_cosines: Tensor, *, scale: float, gamma: float, backend: str = "auto"
) -> Tensor:
    """The loss of every row, from what `catalog_sums` returned, added up over the catalog's slices.

    Parameters
    ----------
    others, target_cosines : float[B]
        The sums.
    scale, gamma : float
        As in `aw_loss`.
    backend : {'auto', 'triton', 'chunked'}, default 'auto'
        'auto' takes the first that can.

    Returns
    -------
    float[B]
        Differentiable by both.
    """
    column = others[:, None]
    request = LossRequest(column, column, others, float(scale), float(gamma), False, None)
    name = dispatch.choose_backend("loss_of_sums", BACKENDS, request, backend)
    return BACKENDS[name].loss_of_sums(others, target_cosines, request.scale, request.gamma)
