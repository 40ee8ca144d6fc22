"""Passes over B x N tiles for `negatives=True`: the largest item and the others' sum, then what the second sum leaves.

An item's probability is p = rho t, where rho = rest / S, rest is the sum of exp(z - scale / 2) over the items but the
target and the row's largest other one, and t = exp(z - scale / 2) / rest <= 1. In units of (2 rho)^gamma rho

    (2p)^gamma -log(1 - p)  is  t^(gamma + 1) L(p),   its slope by log p  is  t^(gamma + 1) (gamma L(p) + 1 / (1 - p))

with L(p) = -log(1 - p) / p. All p here are at most 1/2: the one that can be larger is a row's own (`negative_rows.py`).
"""

import triton
import triton.language as tl

from mtaw_fast.kernels.aw_loss.triton_kernels.gradients import through_norm
from mtaw_fast.kernels.aw_loss.triton_kernels.tiles import chunked_dot, load_targets, load_tile, shifted_exp
from mtaw_fast.kernels.triton_kernels.arithmetic import dot, narrow

NO_ITEM = tl.constexpr(2147483647)
NEVER = tl.constexpr(-1e30)  # the logarithm of 0


@triton.jit
def log_ratio(p):
    """-log(1 - p) / p for 0 <= p <= 1/2, to float32's relative precision: 2 artanh(s) / p with s = p / (2 - p)."""
    inverse = 1.0 / (2.0 - p)
    s = p * inverse
    s = s * s
    series = 1.0 / 11 + s * (1.0 / 13)
    series = 1.0 / 9 + s * series
    series = 1.0 / 7 + s * series
    series = 1.0 / 5 + s * series
    series = 1.0 / 3 + s * series
    return 2.0 * inverse * (1.0 + s * series)


@triton.jit
def log2_of_t(cosines, shifts, scale_log2e):
    """log2(t) of a tile, limited to 0, which it exceeds only where it is masked later. shifts: of the tile's rows."""
    return tl.minimum(cosines * scale_log2e - shifts, 0.0)


@triton.jit
def powers_of_t(t, log2_t, gamma, PLAIN: tl.constexpr):
    """t^(gamma + 1); PLAIN: gamma = 0."""
    return t if PLAIN else tl.exp2((gamma + 1.0) * log2_t)


@triton.jit(do_not_specialize=["n_rows", "n_items", "tiles_a_split"])
def largest_sums(
    queries_p,  # unit queries [n_rows, WIDTH]
    items_p,  # unit items [n_items, WIDTH]
    targets_p,  # int64[n_rows]
    largest_p,  # float32[splits, n_rows]
    numbers_p,  # int32[splits, n_rows]
    rests_p,  # float32[splits, n_rows]
    n_rows,
    n_items,
    tiles_a_split,
    scale_log2e,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    ITEMS: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Of exp(z - scale / 2) over the items of a split but the row's target: the largest, the first item that has it (-1
    where there is none), and the sum of all the others."""
    i_rows, i_split = tl.program_id(0), tl.program_id(1)
    rows = i_rows * ROWS + tl.arange(0, ROWS)
    targets = load_targets(targets_p, rows, n_rows, 0, n_items)
    if WIDTH <= DEPTH:
        queries = load_tile(queries_p, rows, n_rows, WIDTH, 0, WIDTH, DEPTH)
    largest = tl.zeros((ROWS,), tl.float32)
    numbers = tl.full((ROWS,), -1, tl.int32)
    rests = tl.zeros((ROWS,), tl.float32)
    last_tile = tl.minimum((i_split + 1) * tiles_a_split, tl.cdiv(n_items, ITEMS))
    for tile in range(i_split * tiles_a_split, last_tile):
        items = tile * ITEMS + tl.arange(0, ITEMS)
        if WIDTH <= DEPTH:
            item_tile = load_tile(items_p, items, n_items, WIDTH, 0, WIDTH, DEPTH)
            cosines = dot(queries, tl.trans(item_tile), tl.zeros((ROWS, ITEMS), tl.float32), PRECISION)
        else:
            cosines = chunked_dot(
                queries_p, rows, n_rows, items_p, items, n_items, WIDTH, ROWS, ITEMS, DEPTH, PRECISION
            )
        others = (items[None, :] != targets[:, None]) & (items < n_items)[None, :]
        exps = tl.where(others, shifted_exp(cosines, scale_log2e), 0.0)
        peak = tl.max(exps, axis=1)
        first = tl.min(tl.where(exps == peak[:, None], items[None, :], NO_ITEM), axis=1)
        larger = peak > largest
        # Nothing is taken off a sum again: the rest of a row that is nearly sure of an item keeps its digits.
        rests += tl.sum(tl.where(items[None, :] == first[:, None], 0.0, exps), axis=1) + tl.minimum(peak, largest)
        numbers = tl.where(larger, first, numbers)
        largest = tl.maximum(peak, largest)
    split_rows = i_split.to(tl.int64) * n_rows + rows
    m_rows = rows < n_rows
    tl.store(largest_p + split_rows, largest, mask=m_rows)
    tl.store(numbers_p + split_rows, numbers, mask=m_rows)
    tl.store(rests_p + split_rows, rests, mask=m_rows)


@triton.jit(do_not_specialize=["n_rows", "n_items", "tiles_a_split"])
def negative_sums(
    queries_p,  # unit queries [n_rows, WIDTH]
    items_p,  # unit items [n_items, WIDTH]
    targets_p,  # int64[n_rows]
    largest_p,  # int32[n_rows], the items left out
    shifts_p,  # float32[n_rows]
    rhos_p,  # float32[n_rows]
    losses_p,  # float32[splits, n_rows]
    slopes_p,  # float32[splits, n_rows]
    by_t_p,  # float32[splits, n_rows, WIDTH]; without VECTORS not touched, nor the next
    by_slope_p,  # float32[splits, n_rows, WIDTH]
    n_rows,
    n_items,
    tiles_a_split,
    scale_log2e,
    gamma,
    t_lift,
    slope_lift,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    ITEMS: tl.constexpr,
    DEPTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
    VECTORS: tl.constexpr,
    PLAIN: tl.constexpr,
):
    """Sum the loss and its slope by log p, in units, over a split's items without the target and the largest one.

    VECTORS: also t_lift sum t_i e_i and slope_lift sum slope_i e_i, COLUMNS columns a program. The lifts are powers of
    two that fill the dtype of the products.
    """
    i_rows, i_split, i_columns = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    rows = i_rows * ROWS + tl.arange(0, ROWS)
    m_rows = rows < n_rows
    targets = load_targets(targets_p, rows, n_rows, 0, n_items)
    largest = tl.load(largest_p + rows, mask=m_rows, other=-1)
    shifts = tl.load(shifts_p + rows, mask=m_rows, other=float("inf"))
    rhos = tl.load(rhos_p + rows, mask=m_rows, other=0.0)
    if WIDTH <= DEPTH:
        queries = load_tile(queries_p, rows, n_rows, WIDTH, 0, WIDTH, DEPTH)
    losses = tl.zeros((ROWS,), tl.float32)
    slopes = tl.zeros((ROWS,), tl.float32)
    if VECTORS:
        by_t = tl.zeros((ROWS, COLUMNS), tl.float32)
        by_slope = tl.zeros((ROWS, COLUMNS), tl.float32)
    last_tile = tl.minimum((i_split + 1) * tiles_a_split, tl.cdiv(n_items, ITEMS))
    for tile in range(i_split * tiles_a_split, last_tile):
        items = tile * ITEMS + tl.arange(0, ITEMS)
        if VECTORS or WIDTH <= DEPTH:
            item_tile = load_tile(items_p, items, n_items, WIDTH, i_columns * COLUMNS, WIDTH, COLUMNS)
        if WIDTH <= DEPTH:
            cosines = dot(queries, tl.trans(item_tile), tl.zeros((ROWS, ITEMS), tl.float32), PRECISION)
        else:
            cosines = chunked_dot(
                queries_p, rows, n_rows, items_p, items, n_items, WIDTH, ROWS, ITEMS, DEPTH, PRECISION
            )
        counted = (items[None, :] != targets[:, None]) & (items[None, :] != largest[:, None])
        log2_t = log2_of_t(cosines, shifts[:, None], scale_log2e)
        log2_t = tl.where(counted & (items < n_items)[None, :], log2_t, NEVER)
        t = tl.exp2(log2_t)
        if VECTORS:
            by_t = dot(narrow(t * t_lift, items_p.dtype.element_ty), item_tile, by_t, PRECISION)
        power = powers_of_t(t, log2_t, gamma, PLAIN)
        p = rhos[:, None] * t
        ratio = log_ratio(p)
        losses += tl.sum(power * ratio, axis=1)
        slope = power * (gamma * ratio + 1.0 / (1.0 - p))
        slopes += tl.sum(slope, axis=1)
        if VECTORS:
            by_slope = dot(narrow(slope * slope_lift, items_p.dtype.element_ty), item_tile, by_slope, PRECISION)
    split_rows = i_split.to(tl.int64) * n_rows + rows
    if i_columns == 0:
        tl.store(losses_p + split_rows, losses, mask=m_rows)
        tl.store(slopes_p + split_rows, slopes, mask=m_rows)
    if VECTORS:
        columns = i_columns * COLUMNS + tl.arange(0, COLUMNS)
        offsets = split_rows[:, None] * WIDTH + columns[None, :]
        mask = m_rows[:, None] & (columns < WIDTH)[None, :]
        tl.store(by_t_p + offsets, by_t, mask=mask)
        tl.store(by_slope_p + offsets, by_slope, mask=mask)


@triton.jit(do_not_specialize=["n_rows", "n_items"])
def negative_item_gradients(
    queries_p,  # unit queries [n_rows, WIDTH]
    items_p,  # unit items [n_items, WIDTH]
    targets_p,  # int64[n_rows]
    largest_p,  # int32[n_rows]
    shifts_p,  # float32[n_rows]
    rhos_p,  # float32[n_rows]
    t_factors_p,  # float32[n_rows]
    slope_factors_p,  # float32[n_rows]
    largest_entries_p,  # float32[n_rows]
    target_entries_p,  # float32[n_rows]
    unit_p,  # float32[1]
    vectors_p,  # the items as given, [n_items, D], rows vector_stride apart
    inverse_norms_p,  # float32[n_items]
    gradients_p,  # [n_items, D]
    n_rows,
    n_items,
    vector_stride,
    scale_log2e,
    gamma,
    D: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    ITEMS: tl.constexpr,
    DEPTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
    PLAIN: tl.constexpr,
):
    """As `item_gradients`: entries are t_factor t + slope_factor slope, except the row's target and largest item."""
    i_items, i_columns = tl.program_id(0), tl.program_id(1)
    items = i_items * ITEMS + tl.arange(0, ITEMS)
    m_items = items < n_items
    if WIDTH <= DEPTH:
        item_tile = load_tile(items_p, items, n_items, WIDTH, 0, WIDTH, DEPTH)
    gradient = tl.zeros((ITEMS, COLUMNS), tl.float32)
    for begin in range(0, n_rows, ROWS):
        rows = begin + tl.arange(0, ROWS)
        m_rows = rows < n_rows
        targets = load_targets(targets_p, rows, n_rows, 0, n_items)
        largest = tl.load(largest_p + rows, mask=m_rows, other=-1)
        shifts = tl.load(shifts_p + rows, mask=m_rows, other=float("inf"))
        rhos = tl.load(rhos_p + rows, mask=m_rows, other=0.0)
        t_factors = tl.load(t_factors_p + rows, mask=m_rows, other=0.0)
        slope_factors = tl.load(slope_factors_p + rows, mask=m_rows, other=0.0)
        largest_entries = tl.load(largest_entries_p + rows, mask=m_rows, other=0.0)
        target_entries = tl.load(target_entries_p + rows, mask=m_rows, other=0.0)
        queries = load_tile(queries_p, rows, n_rows, WIDTH, i_columns * COLUMNS, WIDTH, COLUMNS)
        if WIDTH <= DEPTH:
            cosines = dot(item_tile, tl.trans(queries), tl.zeros((ITEMS, ROWS), tl.float32), PRECISION)
        else:
            cosines = chunked_dot(
                items_p, items, n_items, queries_p, rows, n_rows, WIDTH, ITEMS, ROWS, DEPTH, PRECISION
            )
        log2_t = log2_of_t(cosines, shifts[None, :], scale_log2e)
        t = tl.exp2(log2_t)
        p = rhos[None, :] * t
        slope = powers_of_t(t, log2_t, gamma, PLAIN) * (gamma * log_ratio(p) + 1.0 / (1.0 - p))
        # Rows beyond n_rows have factors of 0; items beyond n_items are not stored.
        entries = t_factors[None, :] * t + slope_factors[None, :] * slope
        entries = tl.where(items[:, None] == largest[None, :], largest_entries[None, :], entries)
        entries = tl.where(items[:, None] == targets[None, :], target_entries[None, :], entries)
        gradient = dot(narrow(entries, queries_p.dtype.element_ty), queries, gradient, PRECISION)
    columns = i_columns * COLUMNS + tl.arange(0, COLUMNS)
    if D <= COLUMNS:
        gradient *= tl.load(unit_p)
        inverse_norms = tl.load(inverse_norms_p + items, mask=m_items, other=0.0)[:, None]
        unit_vectors = load_tile(vectors_p, items, n_items, vector_stride, 0, D, COLUMNS).to(tl.float32) * inverse_norms
        gradient = through_norm(gradient, unit_vectors, inverse_norms)
    offsets = items.to(tl.int64)[:, None] * D + columns[None, :]
    mask = m_items[:, None] & (columns < D)[None, :]
    tl.store(gradients_p + offsets, narrow(gradient, gradients_p.dtype.element_ty), mask=mask)
