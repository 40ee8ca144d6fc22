"""The row-wise part between the two attentions: FFN and LayerNorm."""

import triton
import triton.language as tl

from mtaw_fast.kernels.prefix_interest.triton_kernels.tile import linear, load_vector, rectified, store_rows


@triton.jit
def feed_forward(
    instant, hidden, slots, in_weight, in_bias, out_weight, out_bias,
    PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """W_out h + b_out with h = ReLU(W_in l' + b_in) for rows l' of `instant` [slots, d]: float32[M, D].

    Writes h to `hidden` [slots, d].
    """
    everywhere = tl.full(slots.shape, True, tl.int1)
    store_rows(hidden, slots, everywhere, rectified(instant, slots, in_weight, in_bias, PART, d, D), d)
    tl.debug_barrier()
    return linear(hidden, slots, out_weight, False, PART, d, D) + load_vector(out_bias, d, D)


@triton.jit
def normalized(y, eps, d: tl.constexpr):
    """(y - mean) / sqrt(variance + eps) of every row, and 1 / sqrt(variance + eps): float32[M, D], float32[M].

    y float32[M, D], 0 right of d, as is the result. The variance is biased.
    """
    inside = tl.arange(0, y.shape[1])[None, :] < d
    mean = tl.sum(y, axis=1) / d
    centered = tl.where(inside, y - mean[:, None], 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centered * centered, axis=1) / d + eps)
    return centered * inverse[:, None], inverse


@triton.jit
def normalized_backward(d_unit, unit, inverse, d: tl.constexpr):
    """Gradient of `normalized`'s y from that of its result, float32[M, D], 0 right of d."""
    inside = tl.arange(0, unit.shape[1])[None, :] < d
    mean = tl.sum(d_unit, axis=1) / d
    along = tl.sum(d_unit * unit, axis=1) / d
    return tl.where(inside, (d_unit - mean[:, None] - unit * along[:, None]) * inverse[:, None], 0.0)
