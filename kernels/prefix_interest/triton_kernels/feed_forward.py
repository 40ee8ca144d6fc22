"""The row-wise part between the two attentions: FFN and LayerNorm."""

import triton
import triton.language as tl

from mtaw_fast.kernels.prefix_interest.triton_kernels.tile import linear, load_vector, rectified


@triton.jit
def feed_forward(v, in_weight, in_bias, out_weight, out_bias, PART: tl.constexpr, d: tl.constexpr):
    """(h, FFN(v)) with h = ReLU(W_in v + b_in) in v's dtype and FFN(v) = W_out h + b_out in float32: [M, D] each."""
    hidden = rectified(v, in_weight, in_bias, PART, d)
    return hidden, linear(hidden, out_weight, False, PART, d) + load_vector(out_bias, d, v.shape[1])


@triton.jit
def normalised(y, eps, d: tl.constexpr):
    """(y - mean) / sqrt(variance + eps) of every row and the root's inverse: float32[M, D], float32[M].

    y float32[M, D], 0 right of d, as is the result. The variance is biased.
    """
    inside = tl.arange(0, y.shape[1])[None, :] < d
    mean = tl.sum(y, axis=1) / d
    centred = tl.where(inside, y - mean[:, None], 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, axis=1) / d + eps)
    return centred * inverse[:, None], inverse
