"""The Triton backend: two kernels forward, six backward, no host synchronization, no atomics.

`README.md` lists what is kept and what is computed again; `configs.py` has the launch settings.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mtaw_fast.kernels import triton_device
from mtaw_fast.kernels.prefix_interest import configs
from mtaw_fast.kernels.prefix_interest.dropout import keep_factor, threshold
from mtaw_fast.kernels.prefix_interest.reference import NORM_EPS
from mtaw_fast.kernels.prefix_interest.request import InterestRequest, PrefixInterestWeights
from mtaw_fast.kernels.prefix_interest.tiles import Tiles

_LINEAR_LAYERS = ("itl_query", "ffn_in", "ffn_out", "iel_query")  # the order of linear_gradients' layers


class _Dropout(NamedTuple):
    """Philox seed int64[1] (any tensor if nothing is dropped) and the two probabilities."""

    seed: Tensor
    click: float
    ffn: float


def not_supported_reasons(request: InterestRequest) -> list[str]:
    """Return why this backend cannot take the request; empty if it can."""
    clicks, tiles = request.clicks, request.tiles
    reasons = triton_device.not_supported_reasons(clicks, *request.weights)
    if clicks.shape[1] > configs.MAX_D:
        reasons.append(f"d = {clicks.shape[1]} is over {configs.MAX_D}, the largest for a tile in registers")
    if clicks.shape[1] == 0:
        reasons.append("d = 0")
    for name, dtype in (("clicks", clicks.dtype), ("compute_dtype", request.compute_dtype)):
        if dtype not in configs.DTYPES:
            reasons.append(f"{name} {dtype} is none of float32, bfloat16, float16")
    if any(weight.dtype not in configs.DTYPES for weight in request.weights):
        reasons.append("the weights are not all float32, bfloat16 or float16")
    if request.ffn_dropout_mask is not None:
        reasons.append("it makes its dropout masks from a seed and takes no ffn_dropout_mask")
    if tiles is None:
        reasons.append("it needs tiles=Tiles.of(offsets on the host, device): reading offsets back would stall the GPU")
    elif tiles.capacity not in configs.TILE_CLICKS:
        reasons.append(f"tiles of {tiles.capacity} clicks are none of {', '.join(map(str, configs.TILE_CLICKS))}")
    elif tiles.slot_click.device != clicks.device:
        reasons.append(f"tiles are on {tiles.slot_click.device}, clicks on {clicks.device}")
    return reasons


def prefix_interest(request: InterestRequest) -> Tensor:
    """One pass over whole sessions: [T, d], as in `interface.prefix_interest`."""
    assert request.tiles is not None
    seed = request.tiles.slot_click if request.seed is None else request.seed
    dropout = _Dropout(seed, request.click_dropout, request.ffn_dropout)
    weights = (weight.contiguous() for weight in request.weights)
    return _PrefixInterest.apply(request.clicks.contiguous(), request.tiles, dropout, request.compute_dtype, *weights)


class _PrefixInterest(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, clicks: Tensor, tiles: Tiles, dropout: _Dropout, dtype: torch.dtype, *weights: Tensor
    ) -> Tensor:
        w = PrefixInterestWeights(*weights)
        with torch.cuda.device_of(clicks):  # Triton launches on the current device
            out, kept = _forward(clicks, tiles, dropout, dtype, w)
        ctx.save_for_backward(*kept, *weights, dropout.seed, tiles.slot_click, tiles.slot_begin, tiles.tile_range)
        ctx.plan = tiles.capacity, tiles.n_clicks
        ctx.dropout = dropout.click, dropout.ffn
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        kept, weights, (seed, *plan) = _Kept(*saved[:7]), saved[7:17], saved[17:]
        with torch.cuda.device_of(grad_out):
            d_clicks, d_weights = _backward(
                grad_out.contiguous(),
                kept,
                Tiles(*plan, *ctx.plan),
                _Dropout(seed, *ctx.dropout),
                PrefixInterestWeights(*weights),
            )
        return d_clicks, None, None, None, *d_weights


class _Kept(NamedTuple):
    """What the forward pass keeps: [slots, d] each in the compute dtype, and float32[slots, 2]."""

    x: Tensor  # the clicks after dropout
    itl_queries: Tensor  # q
    instant: Tensor  # l'
    interests: Tensor  # l
    iel_queries: Tensor  # q'
    itl_softmax: Tensor  # of every row the largest product q . v and the sum of the exps relative to it
    iel_softmax: Tensor


def _constants(tiles: Tiles, d: int, dtype: torch.dtype) -> dict[str, int]:
    """The compile-time arguments of every kernel that takes a tile, and its launch settings."""
    config, columns = configs.tile_config(dtype, torch.version.hip is not None), configs.padded(d)
    return {
        "M": tiles.capacity,
        "PART": configs.part_of(config, columns),
        "d": d,
        "D": columns,
        "num_warps": config.num_warps,
        "num_stages": config.num_stages,
    }


def _forward(
    clicks: Tensor, tiles: Tiles, dropout: _Dropout, dtype: torch.dtype, w: PrefixInterestWeights
) -> tuple[Tensor, _Kept]:
    from mtaw_fast.kernels.prefix_interest.triton_kernels import forward

    d = clicks.shape[1]
    slots = len(tiles.slot_click)
    kept = _Kept(
        *(torch.empty(slots, d, dtype=dtype, device=clicks.device) for _ in range(5)),
        *(torch.empty(slots, 2, dtype=torch.float32, device=clicks.device) for _ in range(2)),
    )
    out = torch.empty_like(clicks)
    if slots == 0:
        return out, kept
    constants, scale = _constants(tiles, d, dtype), 1 / math.sqrt(d)
    plan = tiles.slot_click, tiles.slot_begin, tiles.tile_range
    forward.interest_tracking[(tiles.n_tiles,)](
        clicks, *plan, dropout.seed, *w[:8],
        kept.x, kept.itl_queries, kept.instant, torch.empty_like(kept.x), kept.interests, kept.itl_softmax,
        threshold(dropout.click), keep_factor(dropout.click), threshold(dropout.ffn), keep_factor(dropout.ffn),
        scale, NORM_EPS,
        CLICK_DROPOUT=dropout.click > 0, FFN_DROPOUT=dropout.ffn > 0, **constants,
    )  # fmt: skip
    forward.interest_enhancing[(tiles.n_tiles,)](
        kept.interests, *plan, w.iel_query_weight, w.iel_query_bias,
        kept.iel_queries, out, kept.iel_softmax, scale,
        **constants,
    )  # fmt: skip
    return out, kept


def _backward(
    d_out: Tensor, kept: _Kept, tiles: Tiles, dropout: _Dropout, w: PrefixInterestWeights
) -> tuple[Tensor, list[Tensor]]:
    from mtaw_fast.kernels.prefix_interest.triton_kernels import backward

    d_clicks = torch.empty_like(d_out)
    if tiles.n_tiles == 0:
        return d_clicks, [torch.zeros_like(weight) for weight in w]
    d, dtype = d_out.shape[1], kept.x.dtype
    d_itl_query, d_iel_query, hidden, d_hidden, d_update, d_instant = (torch.empty_like(kept.x) for _ in range(6))
    itl_mean_slope, iel_mean_slope = (torch.empty_like(kept.itl_softmax[:, 0]) for _ in range(2))
    d_norm = torch.empty(tiles.n_tiles, 2, d, dtype=torch.float32, device=d_out.device)
    constants, scale = _constants(tiles, d, dtype), 1 / math.sqrt(d)
    plan = tiles.slot_click, tiles.slot_begin, tiles.tile_range
    backward.interest_enhancing_slopes[(tiles.n_tiles,)](
        kept.interests, kept.iel_queries, d_out, kept.iel_softmax, *plan, iel_mean_slope, scale, **constants
    )
    backward.interest_enhancing_backward[(tiles.n_tiles,)](
        kept.interests, kept.iel_queries, kept.instant, kept.x, kept.itl_queries, d_out,
        kept.iel_softmax, kept.itl_softmax, iel_mean_slope, *plan, dropout.seed, w.iel_query_weight, *w[2:7],
        d_iel_query, hidden, d_hidden, d_update, d_instant, d_norm, itl_mean_slope,
        threshold(dropout.ffn), keep_factor(dropout.ffn), scale, NORM_EPS,
        FFN_DROPOUT=dropout.ffn > 0, **constants,
    )  # fmt: skip
    backward.interest_tracking_backward[(tiles.n_tiles,)](
        kept.x, kept.itl_queries, d_instant, kept.itl_softmax, itl_mean_slope, *plan, dropout.seed,
        w.itl_query_weight,
        d_itl_query, d_clicks,
        threshold(dropout.click), keep_factor(dropout.click), scale,
        CLICK_DROPOUT=dropout.click > 0, **constants,
    )  # fmt: skip
    layers = [
        (d_itl_query, kept.x),
        (d_hidden, kept.instant),
        (d_update, hidden),
        (d_iel_query, kept.interests),
    ]
    linear, norm = _linear_gradients(layers), _add_parts(d_norm)
    gradients = {"norm_weight": norm[0], "norm_bias": norm[1]}
    for layer, gradient in zip(_LINEAR_LAYERS, linear, strict=True):
        gradients |= {f"{layer}_weight": gradient[:d], f"{layer}_bias": gradient[d]}
    return d_clicks, [gradients[name].to(weight.dtype) for name, weight in w._asdict().items()]


def _linear_gradients(layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum over the slots of dy v^T, and of dy below it, for (dy, v) of every layer: float32[layers, d + 1, d]."""
    from mtaw_fast.kernels.prefix_interest.triton_kernels import weight_gradients

    gradient = layers[0][0]
    (slots, d), config = gradient.shape, configs.WEIGHT[gradient.dtype]
    slots_a_part, columns = configs.slots_a_part(slots), configs.padded(d)
    parts, rows = -(-slots // slots_a_part), min(config.rows, columns)
    sums = torch.empty(parts, len(layers), d + 1, d, dtype=torch.float32, device=gradient.device)
    weight_gradients.linear_gradients[(parts, len(layers), columns // rows)](
        *(tensor for layer in layers for tensor in layer), sums, slots, slots_a_part,
        STEP=config.step, ROWS=rows, d=d, D=columns, num_warps=config.num_warps, num_stages=config.num_stages,
    )  # fmt: skip
    return _add_parts(sums)


def _add_parts(parts: Tensor) -> Tensor:
    """parts[0] + parts[1] + .., in this order."""
    from mtaw_fast.kernels.prefix_interest.triton_kernels import weight_gradients

    total = torch.empty_like(parts[0])
    blocks = -(-total.numel() // configs.ADD_BLOCK)
    weight_gradients.add_parts[(blocks,)](parts, total, len(parts), total.numel(), BLOCK=configs.ADD_BLOCK)
    return total
