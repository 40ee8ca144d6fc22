"""The AW loss in plain PyTorch without B x N in float32: row chunks, one exponential an entry, matrix products.

With exps P = exp(z) (the fixed bound |z| <= scale makes a running maximum needless), S their row sum and
c = (2 - 2p)^gamma - 2 gamma p (2 - 2p)^(gamma - 1) log p, the gradient of a row's loss is
dL/dz = c (P / S - onehot). The row scalars go into the small operands of the matrix products, so the
B x N tile is passed over once. The target's entry is taken out of P and handled in float32: otherwise
p - 1 would drown in P's rounding where p nears 1. README.md has the derivation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mtaw_fast.kernels.aw_loss.reference import adaptive_weight, row_scalar
from mtaw_fast.kernels.aw_loss.request import LossRequest
from mtaw_fast.kernels.scatter import add_rows

# A 256 x 40k bf16 tile is 20 MB: under the 32 MB at which glibc returns memory to the system and every
# tile would need fresh pages (measured: 2x on the whole step at 512 rows).
CHUNK_ROWS = 256
# Exps no larger than this are kept for the backward pass (3 matrix products instead of 4), never in float32.
KEEP_BYTES = 128 << 20
_SUM_BLOCK = 128
_SMALLEST_NORM = 1e-12  # torch.nn.functional.normalize's


def not_supported_reasons(request: LossRequest) -> list[str]:
    """Return why this backend cannot take the request; empty if it can."""
    reasons = []
    if request.negatives:
        reasons.append("it has no negatives=True")
    if request.queries.dtype != torch.float32 or request.items.dtype != torch.float32:
        reasons.append("queries and items must be float32")
    if request.compute_dtype not in (None, torch.float32, torch.bfloat16):
        reasons.append("compute_dtype must be float32 or bfloat16")
    return reasons


def aw_loss(request: LossRequest) -> Tensor:
    """Loss of every row, unweighted: float32[B]."""
    dtype = request.compute_dtype or torch.float32
    return _ChunkedLoss.apply(request.queries, request.items, request.targets, request.scale, request.gamma, dtype)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, items: Tensor, targets: Tensor, scale: float, gamma: float, dtype: torch.dtype
    ) -> Tensor:
        q_inverse_norm, e_inverse_norm = inverse_norms(queries), inverse_norms(items)
        q, e = queries * q_inverse_norm, items * e_inverse_norm  # float32 [B, d], [N, d]
        e_target = e[targets]  # [B, d]
        z_target = scale * (q * e_target).sum(dim=1)  # [B]
        e_low, q_low = e.to(dtype), (scale * q).to(dtype)

        keep = dtype != torch.float32 and ctx.needs_input_grad[1] and len(q) * len(e) * 2 <= KEEP_BYTES
        kept, others = [], torch.empty_like(z_target)
        for rows in _chunks(len(q)):
            exps = _exps_without_target(q_low[rows], e_low, targets[rows])
            others[rows] = _row_sums(exps)
            if keep:
                kept.append(exps)
        total = others + z_target.exp()
        log_odds = z_target - others.log()
        ctx.save_for_backward(q, e, q_inverse_norm, e_inverse_norm, targets, total, log_odds, *kept)
        ctx.scale, ctx.gamma, ctx.dtype = scale, gamma, dtype
        return -adaptive_weight(log_odds, gamma) * functional.logsigmoid(log_odds)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        q, e, q_inverse_norm, e_inverse_norm, targets, total, log_odds, *kept = ctx.saved_tensors
        scale, dtype = ctx.scale, ctx.dtype
        row = grad_loss * row_scalar(log_odds, ctx.gamma) * scale  # [B]; dL/d cos = row (P / S - onehot)
        target_row = -row * log_odds.neg().sigmoid()  # its entry at the target, row (p - 1)
        e_low, q_low = e.to(dtype), (scale * q).to(dtype)
        weighted_q = (q * (row / total)[:, None]).to(dtype)  # [B, d]

        d_q = e[targets] * target_row[:, None]
        d_e = add_rows(torch.zeros_like(e), targets, q * target_row[:, None])
        for k, rows in enumerate(_chunks(len(q))):
            exps = kept[k] if kept else _exps_without_target(q_low[rows], e_low, targets[rows])
            d_q[rows] += (exps @ e_low) * (row / total)[rows, None]
            d_e += exps.T @ weighted_q[rows]
        return (
            through_norm(d_q, q, q_inverse_norm),
            through_norm(d_e, e, e_inverse_norm),
            None, None, None, None,
        )  # fmt: skip


def _chunks(rows: int) -> list[slice]:
    return [slice(begin, min(begin + CHUNK_ROWS, rows)) for begin in range(0, rows, CHUNK_ROWS)]


def _exps_without_target(scaled_q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    """exp of a chunk's logits with 0 at each row's target: [rows, N]."""
    exps = (scaled_q @ e.T).exp_()
    exps[torch.arange(len(targets), device=targets.device), targets] = 0
    return exps


def _row_sums(exps: Tensor) -> Tensor:
    """float32[rows] sums, from partial sums over blocks of columns.

    sum(dtype=float32) would first write a float32 copy of the tile. A partial sum is accumulated in
    float32 and rounded to the tile's dtype once, so the error of the whole stays below 2^-9 in bf16
    and averages out over the blocks.
    """
    whole = exps.shape[1] // _SUM_BLOCK * _SUM_BLOCK
    partial = exps[:, :whole].unflatten(1, (-1, _SUM_BLOCK)).sum(dim=-1)
    return partial.float().sum(dim=1) + exps[:, whole:].float().sum(dim=1)


def inverse_norms(vectors: Tensor) -> Tensor:
    """Return 1 / |v| of each row: [n, 1]."""
    return torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min(_SMALLEST_NORM).reciprocal()


def through_norm(gradient: Tensor, unit: Tensor, inverse_norm: Tensor) -> Tensor:
    """Return the gradient with respect to v of a function of unit = v / |v|."""
    along = (gradient * unit).sum(dim=1, keepdim=True)
    return gradient.addcmul_(unit, along, value=-1.0).mul_(inverse_norm)
