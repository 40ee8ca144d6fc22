"""What happens to whole rows between the passes of `negatives=True`: the splits put together, the loss, its slopes.

A row's largest item but the target is the only one whose p can be above 1/2. Its 1 - p is a sum (rest and target over
S), and what its slope 1 / (1 - p) makes infinite cancels by hand, in the scalars below.
"""

import triton
import triton.language as tl

from mtaw_fast.kernels.aw_loss.triton_kernels.gradients import load_unit_rows, through_norm
from mtaw_fast.kernels.aw_loss.triton_kernels.negatives import NO_ITEM, log_ratio
from mtaw_fast.kernels.aw_loss.triton_kernels.rows import LIFT, LOG2_E, SMALLEST_MISS, SMALLEST_PEAK, loss_terms
from mtaw_fast.kernels.aw_loss.triton_kernels.sums import target_cosine
from mtaw_fast.kernels.aw_loss.triton_kernels.tiles import shifted_exp
from mtaw_fast.kernels.triton_kernels.arithmetic import narrow

SMALLEST_REST = tl.constexpr(1e-30)  # below every exp(z - scale / 2): scale is at most 40


@triton.jit(do_not_specialize=["n_rows", "n_items", "scale"])
def finish_largest(
    queries_p,  # [n_rows, D], rows query_stride apart
    items_p,  # [n_items, D], rows item_stride apart
    targets_p,  # int64[n_rows]
    split_largest_p,  # float32[splits, n_rows]
    split_numbers_p,  # int32[splits, n_rows]
    split_rests_p,  # float32[splits, n_rows]
    largest_p,  # float32[n_rows]
    numbers_p,  # int32[n_rows]
    rests_p,  # float32[n_rows]
    target_cosines_p,  # float32[n_rows]
    shifts_p,  # float32[n_rows]
    rhos_p,  # float32[n_rows]
    n_rows,
    n_items,
    splits,
    scale,
    query_stride,
    item_stride,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """A row a program: what `largest_sums` left, over all splits, and the row's shift and rho."""
    row = tl.program_id(0)
    i_split = tl.arange(0, SPLITS)
    split_rows = i_split.to(tl.int64) * n_rows + row
    split_largest = tl.load(split_largest_p + split_rows, mask=i_split < splits, other=0.0)
    split_numbers = tl.load(split_numbers_p + split_rows, mask=i_split < splits, other=-1)
    split_rests = tl.load(split_rests_p + split_rows, mask=i_split < splits, other=0.0)
    largest = tl.max(split_largest, axis=0)
    is_it = (split_largest == largest) & (split_numbers >= 0)
    first = tl.min(tl.where(is_it, split_numbers, NO_ITEM), axis=0)
    rest = tl.sum(split_rests + tl.where(split_numbers == first, 0.0, split_largest), axis=0)
    rests = rest + tl.zeros((1,), tl.float32)

    rows = row + tl.arange(0, 1)
    cosines = target_cosine(
        queries_p, items_p, targets_p, rows, 0, n_items, n_items, query_stride, item_stride, D, COLUMNS
    )
    total = largest + rests + shifted_exp(cosines, scale * LOG2_E)
    tl.store(largest_p + row, largest)
    tl.store(numbers_p + row, tl.where(first == NO_ITEM, -1, first))
    tl.store(rests_p + rows, rests)
    tl.store(target_cosines_p + rows, cosines)
    tl.store(shifts_p + rows, tl.log2(tl.maximum(rests, SMALLEST_REST)) + 0.5 * scale * LOG2_E)
    tl.store(rhos_p + rows, rests / total)


@triton.jit(do_not_specialize=["n_rows", "splits", "scale", "gamma"])
def negative_rows(
    largest_p,  # float32[n_rows]
    rests_p,  # float32[n_rows]
    target_cosines_p,  # float32[n_rows]
    rhos_p,  # float32[n_rows]
    split_losses_p,  # float32[splits, n_rows]
    split_slopes_p,  # float32[splits, n_rows]
    losses_p,  # float32[n_rows]
    t_slopes_p,  # float32[n_rows]
    unit_slopes_p,  # float32[n_rows]
    largest_slopes_p,  # float32[n_rows]
    target_slopes_p,  # float32[n_rows]
    n_rows,
    splits,
    scale,
    gamma,
    PLAIN: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The loss, and its derivative by the cosines: t_slope t_i + unit_slope slope_i, for every item but the row's
    largest and its target, which have their own.

    With g_i the slope of an item's term by log p and G their sum, it is scale times c (p_i - [i = y]) + [i != y] g_i -
    p_i G. For the largest item g - p G = g (1 - p) - p (G - g), where g (1 - p) has no pole.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    m_rows = rows < n_rows
    largest = tl.load(largest_p + rows, mask=m_rows, other=0.0)
    rest = tl.load(rests_p + rows, mask=m_rows, other=1.0)
    cosine = tl.load(target_cosines_p + rows, mask=m_rows, other=0.0)
    rho = tl.load(rhos_p + rows, mask=m_rows, other=0.5)
    unit_losses = tl.zeros((ROWS,), tl.float32)
    unit_slopes = tl.zeros((ROWS,), tl.float32)
    split_rows = rows.to(tl.int64)
    for _ in range(splits):
        unit_losses += tl.load(split_losses_p + split_rows, mask=m_rows, other=0.0)
        unit_slopes += tl.load(split_slopes_p + split_rows, mask=m_rows, other=0.0)
        split_rows += n_rows
    others = largest + rest
    log_p, weight, c, target, total = loss_terms(others, cosine, scale, gamma, PLAIN)

    p, miss = largest / total, (rest + target) / total  # of the largest item: p and 1 - p
    low = tl.minimum(p, 0.5)
    minus_log = tl.where(p > 0.5, -tl.log(tl.maximum(miss, SMALLEST_MISS)), low * log_ratio(low))
    power = tl.full((ROWS,), 1.0, tl.float32)
    unit = rho
    if not PLAIN:
        power = tl.exp2(gamma * tl.log2(tl.maximum(2.0 * p, SMALLEST_REST)))
        unit = rho * tl.exp2(gamma * tl.log2(tl.maximum(2.0 * rho, SMALLEST_REST)))
    of_rest = unit * unit_slopes
    # The largest item's slope, power (gamma minus_log + p / (1 - p)), has a pole; times rho or the target's p it has
    # none, as these are parts of 1 - p.
    bounded = gamma * power * minus_log + of_rest
    pole = power * p / (rest + target)
    entry = c * p + power * (gamma * minus_log * miss + p) - p * of_rest

    tl.store(losses_p + rows, -weight * log_p + unit * unit_losses + power * minus_log, mask=m_rows)
    tl.store(t_slopes_p + rows, scale * ((c - bounded) * rho - pole * rest), mask=m_rows)
    tl.store(unit_slopes_p + rows, scale * unit, mask=m_rows)
    tl.store(largest_slopes_p + rows, scale * entry, mask=m_rows)
    tl.store(target_slopes_p + rows, -scale * ((c * others + bounded * target) / total + pole * target), mask=m_rows)


@triton.jit(do_not_specialize=["n_rows", "max_slope"])
def negative_scalars(
    d_losses_p,  # float32[n_rows]
    t_slopes_p,  # float32[n_rows], as are the next three, of `negative_rows`
    unit_slopes_p,
    largest_slopes_p,
    target_slopes_p,
    t_factors_p,  # float32[n_rows], as are the next three: the same times d_loss, in `unit`s
    slope_factors_p,
    largest_entries_p,
    target_entries_p,
    unit_p,  # float32[1]
    n_rows,
    max_slope,
    ROWS: tl.constexpr,
):
    """As `gradient_scalars`: units with which no dtype of the products overflows. max_slope: the largest slope_i."""
    peaks = tl.zeros((ROWS,), tl.float32)
    for first in range(0, n_rows, ROWS):
        rows = first + tl.arange(0, ROWS)
        m_rows = rows < n_rows
        others = tl.abs(tl.load(t_slopes_p + rows, mask=m_rows, other=0.0))
        others += tl.load(unit_slopes_p + rows, mask=m_rows, other=0.0) * max_slope
        largest = tl.abs(tl.load(largest_slopes_p + rows, mask=m_rows, other=0.0))
        target = tl.abs(tl.load(target_slopes_p + rows, mask=m_rows, other=0.0))
        d_loss = tl.abs(tl.load(d_losses_p + rows, mask=m_rows, other=0.0))
        peaks = tl.maximum(peaks, d_loss * tl.maximum(others, tl.maximum(largest, target)))
    unit = tl.maximum(tl.max(peaks, axis=0), SMALLEST_PEAK) / LIFT

    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    m_rows = rows < n_rows
    factor = tl.load(d_losses_p + rows, mask=m_rows, other=0.0) / unit
    tl.store(t_factors_p + rows, tl.load(t_slopes_p + rows, mask=m_rows, other=0.0) * factor, mask=m_rows)
    tl.store(slope_factors_p + rows, tl.load(unit_slopes_p + rows, mask=m_rows, other=0.0) * factor, mask=m_rows)
    tl.store(largest_entries_p + rows, tl.load(largest_slopes_p + rows, mask=m_rows, other=0.0) * factor, mask=m_rows)
    tl.store(target_entries_p + rows, tl.load(target_slopes_p + rows, mask=m_rows, other=0.0) * factor, mask=m_rows)
    if tl.program_id(0) == 0:
        tl.store(unit_p, unit)


@triton.jit(do_not_specialize=["n_rows", "n_items", "splits"])
def finish_negative_queries(
    by_t_p,  # float32[splits, n_rows, WIDTH], of `negative_sums`
    by_slope_p,  # float32[splits, n_rows, WIDTH]
    d_losses_p,  # float32[n_rows]
    t_slopes_p,  # float32[n_rows], as are the next three, of `negative_rows`
    unit_slopes_p,
    largest_slopes_p,
    target_slopes_p,
    targets_p,  # int64[n_rows]
    largest_p,  # int32[n_rows], -1 where there is none
    items_p,  # the items as given, [n_items, D], rows item_stride apart
    item_norms_p,  # float32[n_items], inverse
    queries_p,  # the queries as given, [n_rows, D], rows query_stride apart
    query_norms_p,  # float32[n_rows], inverse
    gradients_p,  # [n_rows, D]
    n_rows,
    n_items,
    splits,
    t_unit,
    slope_unit,
    query_stride,
    item_stride,
    D: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """The gradient by the queries, a row a program, through the norm. t_unit, slope_unit: 1 over the lifts."""
    row = tl.program_id(0)
    columns = tl.arange(0, COLUMNS)[None, :]
    m_columns = columns < D
    by_t = tl.zeros((1, COLUMNS), tl.float32)
    by_slope = tl.zeros((1, COLUMNS), tl.float32)
    i_split = tl.arange(0, SPLITS)[:, None]
    offsets = (i_split.to(tl.int64) * n_rows + row) * WIDTH + columns
    step = tl.full((1, 1), SPLITS * WIDTH, tl.int64) * n_rows
    for first in range(0, splits, SPLITS):
        mask = (first + i_split < splits) & m_columns
        by_t += tl.sum(tl.load(by_t_p + offsets, mask=mask, other=0.0), axis=0)[None, :]
        by_slope += tl.sum(tl.load(by_slope_p + offsets, mask=mask, other=0.0), axis=0)[None, :]
        offsets += step
    rows = row + tl.arange(0, 1)
    targets = tl.load(targets_p + rows)
    largest = tl.load(largest_p + rows).to(tl.int64)
    exist = (targets >= 0) & (targets < n_items)
    target = load_unit_rows(items_p, item_norms_p, targets, exist, item_stride, D, COLUMNS)
    peak = load_unit_rows(items_p, item_norms_p, largest, largest >= 0, item_stride, D, COLUMNS)
    gradient = tl.load(t_slopes_p + rows)[:, None] * (by_t * t_unit)
    gradient += tl.load(unit_slopes_p + rows)[:, None] * (by_slope * slope_unit)
    gradient += tl.load(largest_slopes_p + rows)[:, None] * peak + tl.load(target_slopes_p + rows)[:, None] * target
    gradient *= tl.load(d_losses_p + rows)[:, None]
    inverse = tl.load(query_norms_p + rows)[:, None]
    query_p = queries_p + rows.to(tl.int64)[:, None] * query_stride + columns
    unit_query = tl.load(query_p, mask=m_columns, other=0.0).to(tl.float32) * inverse
    gradient = through_norm(gradient, unit_query, inverse)
    gradient_p = gradients_p + rows.to(tl.int64)[:, None] * D + columns
    tl.store(gradient_p, narrow(gradient, gradients_p.dtype.element_ty), mask=m_columns)
