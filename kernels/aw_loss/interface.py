"""The public op: linear + L2 norm + scaled softmax over the catalog + adaptive weight."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from mtaw_fast.errors import UsageError
from mtaw_fast.kernels import dispatch
from mtaw_fast.kernels.aw_loss import chunked, fused, native, reference
from mtaw_fast.kernels.aw_loss.request import LossRequest

BACKENDS: dict[str, ModuleType] = {  # fastest first
    "triton": fused,
    "native": native,
    "chunked": chunked,
    "reference": reference,
}
MAX_SCALE = 40.0  # sum exp(z) over 1e9 items stays finite in float32


def aw_loss(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    *,
    scale: float,
    gamma: float,
    weights: Tensor | None = None,
    reduction: str = "mean",
    negatives: bool = False,
    compute_dtype: torch.dtype | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> Tensor:
    """Return the adaptive-weight loss of the next click over the whole catalog (MTAW, SIGIR 2023).

    L = -(2 - 2p)^gamma log p with p = softmax(scale * cos(q, e))_target; `README.md` has the formulas.

    Parameters
    ----------
    queries : float[B, d]
        L2-normalized inside.
    items : float[N, d]
        L2-normalized inside.
    targets : int64[B]
        The next click of each query, in 0..N-1.
    scale : float
        Factor on the cosine, in (0, 40].
    gamma : float
        Exponent of the adaptive weight, at least 0; 0 is plain cross-entropy.
    weights : float[B], optional
        Multiplies each row's loss (0 = no loss).
    reduction : {'mean', 'sum', 'none'}, default 'mean'
        'mean' is the sum over the number of rows with a weight other than 0; it is 0 without any.
    negatives : bool, default False
        Whether to add -sum_{j != y} (2 p_j)^gamma log(1 - p_j), all items' reading of the paper; 'chunked' has none.
    compute_dtype : torch.dtype, optional
        Of the matrix products (accumulated in float32); that of the inputs by default.
    backend : {'auto', 'triton', 'native', 'chunked', 'reference'}, default 'auto'
        'auto' takes the first that can.
    threads : int, optional
        Of 'native', which gives the same bits for every number; PyTorch's number by default.

    Returns
    -------
    float[] or float[B]
        One number, or one a row for reduction='none'; in float32 where the inputs are narrower.

    Raises
    ------
    UsageError
        On malformed arguments.
    UnsupportedError
        Where no backend takes them.
    """
    request = LossRequest(queries, items, targets, float(scale), float(gamma), negatives, compute_dtype, threads)
    _check(request, weights, reduction)
    chosen = BACKENDS[choose_backend(request, backend)]
    rows: Tensor | float = float(max(len(queries), 1))
    if weights is not None:
        rows = (weights != 0).sum().clamp_min(1)
    if reduction != "none" and hasattr(chosen, "weighted_sum") and not (weights is not None and weights.requires_grad):
        row_weights = torch.ones_like(queries[:, 0]) if weights is None else weights
        return chosen.weighted_sum(request, row_weights if reduction == "sum" else row_weights / rows)
    row_loss = chosen.aw_loss(request)
    if row_loss.dtype in (torch.bfloat16, torch.float16):
        row_loss = row_loss.float()  # sums of many rows
    if weights is not None:
        row_loss = row_loss * weights
    if reduction == "none":
        return row_loss
    return row_loss.sum() if reduction == "sum" else row_loss.sum() / rows


def choose_backend(request: LossRequest, backend: str) -> str:
    """Name of the backend that takes the request; the choice is logged once."""
    return dispatch.choose_backend("aw_loss", BACKENDS, request, backend)


def _check(request: LossRequest, weights: Tensor | None, reduction: str) -> None:
    queries, items, targets = request.queries, request.items, request.targets
    if queries.ndim != 2 or items.ndim != 2 or queries.shape[1] != items.shape[1]:
        raise UsageError(
            f"aw_loss: queries [B, d] and items [N, d] must share d, not {list(queries.shape)} and {list(items.shape)}"
        )
    if targets.dtype != torch.int64 or targets.shape != queries.shape[:1]:
        raise UsageError(f"aw_loss: targets must be int64[{len(queries)}], not {targets.dtype}{list(targets.shape)}")
    if weights is not None and weights.shape != targets.shape:
        raise UsageError(f"aw_loss: weights must be float[{len(queries)}], not {list(weights.shape)}")
    if reduction not in ("none", "mean", "sum"):
        raise UsageError(f"aw_loss: reduction {reduction!r} is none of 'none', 'mean', 'sum'")
    if not 0 < request.scale <= MAX_SCALE:
        raise UsageError(f"aw_loss: scale must be in (0, {MAX_SCALE:g}], not {request.scale}")
    if not request.gamma >= 0:
        raise UsageError(f"aw_loss: gamma must be at least 0, not {request.gamma}")
