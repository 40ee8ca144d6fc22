"""ITL and IEL in plain PyTorch: the reference for every faster backend.

Axes: T clicks, B sessions, L clicks of the longest session of a group, d.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from mtaw_fast.kernels.prefix_interest.dropout import CLICK_STREAM, FFN_STREAM, dropout_mask
from mtaw_fast.kernels.prefix_interest.request import InterestRequest, PrefixInterestWeights

NORM_EPS = 1e-5
SHORTEST_GROUP = 4  # clicks: shorter sessions are not worth a group of their own


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

    sessions = PaddedSessions(request.offsets)
    x = clicks.to(dtype)
    q = functional.relu(functional.linear(x, weights.itl_query_weight, weights.itl_query_bias))
    instant = sessions.prefix_attention(q, x)  # [T, d]; row t is l'_t, from the slice X'_t

    hidden = functional.relu(functional.linear(instant, weights.ffn_in_weight, weights.ffn_in_bias))
    update = functional.linear(hidden, weights.ffn_out_weight, weights.ffn_out_bias)
    if mask is not None:
        update = update * mask.to(dtype)
    interests = functional.layer_norm(instant + update, (d,), weights.norm_weight, weights.norm_bias, NORM_EPS)

    q = functional.relu(functional.linear(interests, weights.iel_query_weight, weights.iel_query_bias))
    return sessions.prefix_attention(q, interests).to(request.clicks.dtype)  # [T, d]


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


class PaddedSessions:
    """The sessions in groups of like length, so that few clicks of a batch with one long session are padding."""

    def __init__(self, offsets: Tensor) -> None:
        lengths = offsets.diff()
        halvings = lengths.clamp_min(SHORTEST_GROUP).sub(1).log2().floor()  # 2^h < length <= 2^(h + 1)
        self._groups = [_Group(offsets, torch.nonzero(halvings == h)[:, 0]) for h in halvings.unique()]
        clicks = [group.clicks for group in self._groups]
        self._back = torch.cat([*clicks, offsets[:0]]).argsort()

    def prefix_attention(self, queries: Tensor, values: Tensor) -> Tensor:
        """Every click's query over its session's values up to it: [T, d]."""
        parts = [g.unpad(_prefix_attention(g.pad(queries), g.pad(values))) for g in self._groups]
        return torch.cat([*parts, values[:0]])[self._back]


class _Group:
    """Moves the clicks of some sessions between packed [T, d] and padded [B, L, d]. clicks: theirs, int64."""

    def __init__(self, offsets: Tensor, chosen: Tensor) -> None:
        lengths, begins = offsets.diff()[chosen], offsets[:-1][chosen]
        self._shape = (len(lengths), int(lengths.max()))
        self._row = torch.repeat_interleave(torch.arange(len(lengths), device=offsets.device), lengths)
        before = lengths.cumsum(0) - lengths
        self._column = torch.arange(len(self._row), device=offsets.device) - before[self._row]
        self.clicks = begins[self._row] + self._column

    def pad(self, packed: Tensor) -> Tensor:
        padded = packed.new_zeros(*self._shape, packed.shape[1])
        return padded.index_put((self._row, self._column), packed[self.clicks])

    def unpad(self, padded: Tensor) -> Tensor:
        return padded[self._row, self._column]
