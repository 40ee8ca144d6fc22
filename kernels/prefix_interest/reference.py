"""ITL and IEL in plain PyTorch: the reference that every faster backend is held against.

Axes: T clicks, B sessions, L clicks of the longest session, d.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from mtaw_fast.kernels.prefix_interest.dropout import CLICK_STREAM, FFN_STREAM, dropout_mask
from mtaw_fast.kernels.prefix_interest.request import InterestRequest, PrefixInterestWeights

NORM_EPS = 1e-5


def not_supported_reasons(_request: InterestRequest) -> list[str]:
    """Why this backend cannot take the request: it can."""
    return []


def prefix_interest(request: InterestRequest) -> Tensor:
    """One pass over whole sessions: [T, d], as in `interface.prefix_interest`."""
    dtype, (_, d) = request.compute_dtype, request.clicks.shape
    weights = PrefixInterestWeights(*(weight.to(dtype) for weight in request.weights))
    clicks, mask = request.clicks, request.ffn_dropout_mask
    if request.click_dropout > 0:
        clicks = clicks * _mask(request, CLICK_STREAM, request.click_dropout)
    if request.ffn_dropout > 0:
        mask = _mask(request, FFN_STREAM, request.ffn_dropout)

    place = _Padding(request.offsets)
    x = place.pad(clicks.to(dtype))  # [B, L, d]
    q = functional.relu(functional.linear(x, weights.itl_query_weight, weights.itl_query_bias))
    instant = _prefix_attention(q, x)  # [B, L, d]; row t is l'_t, from the slice X'_t

    hidden = functional.relu(functional.linear(instant, weights.ffn_in_weight, weights.ffn_in_bias))
    update = functional.linear(hidden, weights.ffn_out_weight, weights.ffn_out_bias)
    if mask is not None:
        update = update * place.pad(mask.to(dtype))
    interests = functional.layer_norm(instant + update, (d,), weights.norm_weight, weights.norm_bias, NORM_EPS)

    q = functional.relu(functional.linear(interests, weights.iel_query_weight, weights.iel_query_bias))
    return place.unpad(_prefix_attention(q, interests)).to(request.clicks.dtype)  # [T, d]


def _mask(request: InterestRequest, stream: int, probability: float) -> Tensor:
    assert request.seed is not None
    rows, channels = request.clicks.shape
    return dropout_mask(request.seed, stream, (rows, channels), probability).to(request.clicks.dtype)


def _prefix_attention(queries: Tensor, values: Tensor) -> Tensor:
    """softmax(q_t V_{1..t}^T / sqrt(d)) V_{1..t} for every t at once: [B, L, d].

    Sessions are padded on the right, so the causal mask also hides the padding from real clicks.
    """
    length, d = values.shape[1:]
    scores = queries @ values.transpose(1, 2) / math.sqrt(d)  # [B, L, L]
    future = torch.ones(length, length, dtype=torch.bool, device=values.device).triu(1)
    return scores.masked_fill(future, -math.inf).softmax(dim=-1) @ values


class _Padding:
    """Moves clicks between packed [T, d] and padded [B, L, d]."""

    def __init__(self, offsets: Tensor) -> None:
        lengths = offsets.diff()
        self._shape = (len(lengths), int(lengths.max()) if len(lengths) else 0)
        self._row = torch.repeat_interleave(torch.arange(len(lengths), device=offsets.device), lengths)
        self._column = torch.arange(len(self._row), device=offsets.device) - offsets[:-1][self._row]

    def pad(self, packed: Tensor) -> Tensor:
        padded = packed.new_zeros(*self._shape, packed.shape[1])
        return padded.index_put((self._row, self._column), packed)

    def unpad(self, padded: Tensor) -> Tensor:
        return padded[self._row, self._column]
