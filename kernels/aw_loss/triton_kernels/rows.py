"""What happens to whole rows between the passes over the catalog: the loss, its slopes, the gradient's scalars."""

import triton
import triton.language as tl

from mtaw_fast.kernels.aw_loss.triton_kernels.tiles import shifted_exp

LOG2_E = tl.constexpr(1.4426950408889634)
# Gradient entries are lifted by 2^15, so that fp16 holds probabilities of catalogs of millions; at most 2^15 < 65504.
LIFT = tl.constexpr(32768.0)
SMALLEST_PEAK = tl.constexpr(1e-30)  # its quotient by LIFT is still a normal float32
# Below every 1 - p but that of a catalog of one item, which is 0: scale is at most 40, and exp(-80) is 1.8e-35.
SMALLEST_MISS = tl.constexpr(1e-37)


@triton.jit
def log1p(x):
    """log(1 + x) for 0 <= x <= 1, to float32's relative precision (Kahan)."""
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0)))


@triton.jit
def loss_terms(others, cosine, scale, gamma, PLAIN: tl.constexpr):
    """(log p, weight (2 - 2p)^gamma, -d loss / d log p, exp(z - scale / 2) of the target, its sum with `others`).

    1 - p is others / total, never a difference; log p comes from it too where p > 1/2. PLAIN: gamma = 0.
    """
    target = shifted_exp(cosine, scale * LOG2_E)
    total = others + target
    ratio = others / target
    log_p = tl.where(ratio < 1.0, -log1p(tl.minimum(ratio, 1.0)), scale * (cosine - 0.5) - tl.log(total))
    weight = tl.full(others.shape, 1.0, tl.float32)
    slope = weight
    if not PLAIN:
        log_base = tl.log2(tl.maximum(2.0 * (others / total), SMALLEST_MISS))
        weight = tl.exp2(gamma * log_base)
        slope = weight - 2.0 * gamma * (target / total) * tl.exp2((gamma - 1.0) * log_base) * log_p
    return log_p, weight, slope, target, total


@triton.jit(do_not_specialize=["n_rows", "scale", "gamma"])
def row_losses(
    others_p,  # float32[n_rows]
    target_cosines_p,  # float32[n_rows]
    losses_p,  # float32[n_rows]
    others_slopes_p,  # float32[n_rows]
    cosine_slopes_p,  # float32[n_rows]
    n_rows,
    scale,
    gamma,
    PLAIN: tl.constexpr,
    ROWS: tl.constexpr,
):
    """loss = -(2 - 2p)^gamma log p and its derivatives by `others` and by the target's cosine; PLAIN: gamma = 0."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    others = tl.load(others_p + rows, mask=rows < n_rows, other=1.0)
    cosine = tl.load(target_cosines_p + rows, mask=rows < n_rows, other=0.0)
    log_p, weight, slope, _, total = loss_terms(others, cosine, scale, gamma, PLAIN)
    tl.store(losses_p + rows, -weight * log_p, mask=rows < n_rows)
    tl.store(others_slopes_p + rows, slope / total, mask=rows < n_rows)
    tl.store(cosine_slopes_p + rows, -slope * scale * (others / total), mask=rows < n_rows)


@triton.jit(do_not_specialize=["n_rows", "scale"])
def gradient_scalars(
    d_others_p,  # float32[n_rows]
    d_cosines_p,  # float32[n_rows]
    others_p,  # float32[n_rows]
    factors_p,  # float32[n_rows]
    target_entries_p,  # float32[n_rows]
    unit_p,  # float32[1]
    n_rows,
    scale,
    ROWS: tl.constexpr,
):
    """The scalars that make the gradient by the cosines, in units that no dtype of the products overflows:

    d cosine[b, i] = unit * (factor[b] exp(z - scale / 2) for i other than b's target, target_entry[b] for it).
    """
    # Every program looks at all rows: a maximum has no order, and this spares a launch.
    peaks = tl.zeros((ROWS,), tl.float32)
    for first in range(0, n_rows, ROWS):
        rows = first + tl.arange(0, ROWS)
        d_others = tl.load(d_others_p + rows, mask=rows < n_rows, other=0.0)
        d_cosine = tl.load(d_cosines_p + rows, mask=rows < n_rows, other=0.0)
        others = tl.load(others_p + rows, mask=rows < n_rows, other=0.0)
        peaks = tl.maximum(peaks, tl.maximum(tl.abs(d_others) * others * scale, tl.abs(d_cosine)))
    unit = tl.maximum(tl.max(peaks, axis=0), SMALLEST_PEAK) / LIFT

    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    d_others = tl.load(d_others_p + rows, mask=rows < n_rows, other=0.0)
    d_cosine = tl.load(d_cosines_p + rows, mask=rows < n_rows, other=0.0)
    tl.store(factors_p + rows, d_others * scale / unit, mask=rows < n_rows)
    tl.store(target_entries_p + rows, d_cosine / unit, mask=rows < n_rows)
    if tl.program_id(0) == 0:
        tl.store(unit_p, unit)
