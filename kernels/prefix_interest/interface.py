"""The public op: prefix-sliced interest attention over packed sessions."""

from __future__ import annotations

from torch import Tensor

from mtaw_fast.kernels.prefix_interest import reference
from mtaw_fast.kernels.prefix_interest.reference import PrefixInterestWeights

__all__ = ["PrefixInterestWeights", "prefix_interest"]


def prefix_interest(
    clicks: Tensor,
    offsets: Tensor,
    weights: PrefixInterestWeights,
    *,
    ffn_dropout_mask: Tensor | None = None,
) -> Tensor:
    """Interest o_t after every click, from clicks 1..t of its session alone (MTAW, SIGIR 2023, ITL and IEL).

    clicks: float[T, d], embedded clicks x_t of B packed sessions. offsets: int64[B + 1].
    ffn_dropout_mask: float[T, d] that multiplies the FFN's output (0, or 1 / keep probability), or None.

    Returns float[T, d]:
        q_t = ReLU(W_q x_t + b_q),  l'_t = softmax(q_t X_{1..t}^T / sqrt(d)) X_{1..t}
        l_t = LayerNorm(l'_t + mask_t * FFN(l'_t)),  FFN(v) = W_out ReLU(W_in v + b_in) + b_out
        q'_t = ReLU(W_q' l_t + b_q'),  o_t = softmax(q'_t L_{1..t}^T / sqrt(d)) L_{1..t}
    """
    return reference.prefix_interest(clicks, offsets, weights, ffn_dropout_mask)
