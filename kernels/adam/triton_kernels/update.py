"""The AdamW update of one group of weights."""

import triton
import triton.language as tl


@triton.jit
def adam_kernel(
    weights,
    gradients,
    first_moments,
    second_moments,
    scalars,
    apply,
    n,
    eps,
    BETA1: tl.constexpr,
    BETA2: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Updates BLOCK weights and their moments in place; does nothing where `apply` is false.

    scalars: what `scalars_kernel` wrote.
    """
    if tl.load(apply):
        clip = tl.load(scalars + 1)
        step_size = tl.load(scalars + 2)
        correction = tl.load(scalars + 3)
        decay = tl.load(scalars + 4)
        o = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        m = o < n
        b_w = tl.load(weights + o, mask=m, other=0.0)
        b_g = tl.load(gradients + o, mask=m, other=0.0) * clip
        b_m = tl.load(first_moments + o, mask=m, other=0.0)
        b_v = tl.load(second_moments + o, mask=m, other=0.0)
        b_m = BETA1 * b_m + (1.0 - BETA1) * b_g
        b_v = BETA2 * b_v + (1.0 - BETA2) * b_g * b_g
        b_w = b_w * decay - step_size * b_m / (tl.sqrt(b_v) / correction + eps)
        tl.store(weights + o, b_w, mask=m)
        tl.store(first_moments + o, b_m, mask=m)
        tl.store(second_moments + o, b_v, mask=m)
