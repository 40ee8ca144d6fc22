"""The gradient's norm in a fixed order, and the scalars of the step that depend on it."""

import triton
import triton.language as tl

CLIP_EPS = tl.constexpr(1e-6)  # torch.nn.utils.clip_grad_norm_'s


@triton.jit
def square_sums_kernel(gradients, partials, n, BLOCK: tl.constexpr):
    """partials[i] = sum of squares of gradients[i BLOCK .. (i + 1) BLOCK - 1]: no atomics, the same bits always."""
    i_block = tl.program_id(0)
    o = i_block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(gradients + o, mask=o < n, other=0.0)
    tl.store(partials + i_block, tl.sum(g * g, axis=0))


@triton.jit
def scalars_kernel(
    partials,
    n_partials,
    step,
    learning_rate,
    apply,
    scalars,
    weight_decay,
    clip_norm,
    LOG_BETA1: tl.constexpr,
    LOG_BETA2: tl.constexpr,
    CLIP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Counts `step` up where `apply`, and writes scalars[5] for `adam_kernel`; one program.

    scalars: norm of the gradient, clip factor, learning rate / (1 - beta1^step), sqrt(1 - beta2^step),
    1 - learning rate * weight decay. The bias corrections in float64: 1 - beta2^1 would keep 4 digits in float32.
    """
    total = tl.zeros((BLOCK,), tl.float64)
    for begin in range(0, n_partials, BLOCK):
        o = begin + tl.arange(0, BLOCK)
        total += tl.load(partials + o, mask=o < n_partials, other=0.0).to(tl.float64)
    norm = tl.sqrt(tl.sum(total, axis=0)).to(tl.float32)
    clip = norm * 0.0 + 1.0
    if CLIP:
        ratio = clip_norm / (norm + CLIP_EPS)
        clip = tl.where(ratio > 1.0, 1.0, ratio)  # NaN stays NaN, as with PyTorch's clamp

    taken = tl.load(step) + tl.load(apply).to(tl.float32)
    tl.store(step, taken)
    rate = tl.load(learning_rate).to(tl.float64)
    correction1 = 1.0 - tl.exp(taken.to(tl.float64) * LOG_BETA1)
    correction2 = 1.0 - tl.exp(taken.to(tl.float64) * LOG_BETA2)
    tl.store(scalars, norm)
    tl.store(scalars + 1, clip)
    tl.store(scalars + 2, (rate / correction1).to(tl.float32))
    tl.store(scalars + 3, tl.sqrt(correction2).to(tl.float32))
    tl.store(scalars + 4, (1.0 - rate * weight_decay).to(tl.float32))
