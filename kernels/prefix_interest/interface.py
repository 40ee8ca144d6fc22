"""The public op: prefix-sliced interest attention over packed sessions."""

from __future__ import annotations

import torch
from torch import Tensor

from mtaw_fast.errors import UsageError
from mtaw_fast.kernels import dispatch
from mtaw_fast.kernels.prefix_interest import fused, reference
from mtaw_fast.kernels.prefix_interest.request import InterestRequest, PrefixInterestWeights
from mtaw_fast.kernels.prefix_interest.tiles import Tiles

BACKENDS = {"triton": fused, "reference": reference}  # fastest first


def prefix_interest(
    clicks: Tensor,
    offsets: Tensor,
    weights: PrefixInterestWeights,
    *,
    tiles: Tiles | None = None,
    click_dropout: float = 0.0,
    ffn_dropout: float = 0.0,
    seed: Tensor | int | None = None,
    ffn_dropout_mask: Tensor | None = None,
    compute_dtype: torch.dtype | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return the interest o_t after every click, from only clicks 1..t of its session (MTAW's ITL and IEL, SIGIR 2023).

        q_t = ReLU(W_q x_t + b_q),  l'_t = softmax(q_t X_{1..t}^T / sqrt(d)) X_{1..t}
        l_t = LayerNorm(l'_t + mask_t * FFN(l'_t)),  FFN(v) = W_out ReLU(W_in v + b_in) + b_out
        q'_t = ReLU(W_q' l_t + b_q'),  o_t = softmax(q'_t L_{1..t}^T / sqrt(d)) L_{1..t}

    Parameters
    ----------
    clicks : float[T, d]
        Embedded clicks x_t of B packed sessions.
    offsets : int64[B + 1]
        Where each session begins.
    weights : PrefixInterestWeights
        The layers, as weight[out, in].
    tiles : Tiles, optional
        The plan of the same offsets, `Tiles.of(..)`; the triton backend needs it.
    click_dropout, ffn_dropout : float, default 0
        Probabilities in [0, 1) with which elements of x_t and of the FFN's output are dropped.
    seed : int64[1] on the clicks' device, or int, optional
        With the shape it fixes both masks (`dropout.dropout_mask`), on every backend and device. Needed with either
        dropout.
    ffn_dropout_mask : float[T, d], optional
        Multiplies the FFN's output in place of ffn_dropout (reference only).
    compute_dtype : torch.dtype, optional
        Of the products' operands and of what is kept for the backward pass (sums are float32); that of the clicks by
        default.
    backend : {'auto', 'triton', 'reference'}, default 'auto'
        'auto' takes the first that can.

    Returns
    -------
    float[T, d]
        o_t, in the clicks' dtype.

    Raises
    ------
    UsageError
        On malformed arguments.
    UnsupportedError
        Where no backend takes them.
    """
    if isinstance(seed, int):
        seed = torch.full((1,), seed, dtype=torch.int64, device=clicks.device)
    request = InterestRequest(
        clicks=clicks,
        offsets=offsets,
        weights=weights,
        tiles=tiles,
        click_dropout=float(click_dropout),
        ffn_dropout=float(ffn_dropout),
        seed=seed,
        ffn_dropout_mask=ffn_dropout_mask,
        compute_dtype=compute_dtype or clicks.dtype,
    )
    _check(request)
    return BACKENDS[choose_backend(request, backend)].prefix_interest(request)


def choose_backend(request: InterestRequest, backend: str) -> str:
    """Name of the backend that takes the request; the choice is logged once."""
    return dispatch.choose_backend("prefix_interest", BACKENDS, request, backend)


def _check(request: InterestRequest) -> None:
    clicks, offsets, tiles, seed = request.clicks, request.offsets, request.tiles, request.seed
    if clicks.ndim != 2 or not clicks.is_floating_point():
        raise UsageError(f"prefix_interest: clicks must be float[T, d], not {clicks.dtype}{list(clicks.shape)}")
    if offsets.dtype != torch.int64 or offsets.ndim != 1 or len(offsets) == 0:
        raise UsageError(f"prefix_interest: offsets must be int64[B + 1], not {offsets.dtype}{list(offsets.shape)}")
    d = clicks.shape[1]
    for name, weight in request.weights._asdict().items():
        expected = [d, d] if name.endswith("_weight") and not name.startswith("norm") else [d]
        if list(weight.shape) != expected:
            raise UsageError(f"prefix_interest: {name} must be {expected} for d = {d}, not {list(weight.shape)}")
    if tiles is not None and tiles.n_clicks != len(clicks):
        raise UsageError(f"prefix_interest: tiles are the plan of {tiles.n_clicks} clicks, not of {len(clicks)}")
    mask = request.ffn_dropout_mask
    if mask is not None and (mask.shape != clicks.shape or request.ffn_dropout > 0):
        raise UsageError(
            f"prefix_interest: ffn_dropout_mask must be float{list(clicks.shape)} and takes the place of ffn_dropout"
        )
    for name in ("click_dropout", "ffn_dropout"):
        probability = getattr(request, name)
        if not 0 <= probability < 1:
            raise UsageError(f"prefix_interest: {name} must be in [0, 1), not {probability}")
        if probability > 0 and seed is None:
            raise UsageError(f"prefix_interest: {name} = {probability} needs a seed")
    if seed is not None and (seed.dtype != torch.int64 or seed.shape != (1,)):
        raise UsageError(f"prefix_interest: seed must be int64[1] or a number, not {seed.dtype}{list(seed.shape)}")
