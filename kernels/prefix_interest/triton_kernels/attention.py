"""Prefix attention of one tile, softmax(q V^T / sqrt(d)) V with keys = values = V, forward and backward."""

import triton
import triton.language as tl

from mtaw_fast.kernels.prefix_interest.triton_kernels.tile import dot_rows
from mtaw_fast.kernels.triton_kernels.arithmetic import dot, narrow


@triton.jit
def attend(queries, values, seen, best, total, mixed, scale, PART: tl.constexpr):
    """Take one tile of keys into the running softmax: (best, total, mixed) after it.

    queries [M, D]; values [N, D]; seen bool[M, N]; best, total float32[M]: the largest score so far and the sum of
    exp(score - best); mixed float32[M, D]: the sum of exp(score - best) * value. The first tile must show every
    query a key, so that `best` is finite from then on.
    """
    scores = tl.where(seen, dot_rows(queries, values, PART) * scale, -float("inf"))
    higher = tl.maximum(best, tl.max(scores, axis=1))
    shrink = tl.exp(best - higher)
    exps = tl.exp(scores - higher[:, None])
    total = total * shrink + tl.sum(exps, axis=1)
    mixed = dot(narrow(exps, values.dtype), values, mixed * shrink[:, None])
    return higher, total, mixed


@triton.jit
def score_gradients(queries, values, upstream, seen, log_total, along, scale, PART: tl.constexpr):
    """Probabilities and gradients of q . v, both [M, N] in the values' dtype.

    upstream [M, D]: gradient of the attention's output; log_total float32[M]: log of the softmax's denominator;
    along float32[M]: upstream . output.
    """
    scores = tl.where(seen, dot_rows(queries, values, PART) * scale, -float("inf"))
    probabilities = tl.exp(scores - log_total[:, None])
    slopes = dot_rows(upstream, values, PART) - along[:, None]
    return narrow(probabilities, values.dtype), narrow(probabilities * slopes * scale, values.dtype)
