"""Prefix attention of one tile's rows: softmax(q V_{1..t}^T / sqrt(d)) V_{1..t}, keys = values = V.

A tile attends over the tiles from `tile_range[0]` to its own, which is its own alone where it holds whole sessions.
"""

import triton
import triton.language as tl

from mtaw_fast.kernels.prefix_interest.triton_kernels.tile import (
    linear,
    load_part,
    load_rows,
    rectified,
    store_rows,
    visible,
)
from mtaw_fast.kernels.triton_kernels.arithmetic import dot, narrow

_LOW = tl.constexpr(-1e30)  # below every product, and finite: a row that sees no key of a tile stays a number


@triton.jit
def row_products(a, a_rows, a_present, b, b_rows, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
                 DTYPE: tl.constexpr):  # fmt: skip
    """float32[M, N] products of rows of a [.., d] with rows of b [slots, d], both in DTYPE."""
    everywhere = tl.full(b_rows.shape, True, tl.int1)
    total = tl.zeros([a_rows.shape[0], b_rows.shape[0]], tl.float32)
    for first in range(0, D, PART):
        left = narrow(load_part(a, a_rows, a_present, first, PART, d).to(tl.float32), DTYPE)
        total = dot(left, tl.trans(load_part(b, b_rows, everywhere, first, PART, d)), total)
    return total


@triton.jit
def attention(
    values, queries, slot_begin, tile_range, query_weight, query_bias, softmax_out, scale,
    M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Attention of the program's tile with q = ReLU(W v + b): float32[M, D].

    values [slots, d]. Writes q to `queries` [slots, d], and to `softmax_out` float32[slots, 2] a row's largest
    product q . v and the sum of exp((product - largest) * scale). (One number, the sum's logarithm, would do, but is
    rounded at the size of the scores: with it the gradients of W_q' had twice eager's error at d = 100.)
    """
    tile = tl.program_id(0)
    slots = tile * M + tl.arange(0, M)
    everywhere = tl.full([M], True, tl.int1)
    begins = tl.load(slot_begin + slots)
    store_rows(queries, slots, everywhere, rectified(values, slots, query_weight, query_bias, PART, d, D), d)
    tl.debug_barrier()

    best = tl.full([M], _LOW, tl.float32)  # the largest product so far
    total = tl.zeros([M], tl.float32)
    mixed = tl.zeros([M, D], tl.float32)  # sum of exp((product - best) * scale) * value
    for other_tile in range(tl.load(tile_range + 2 * tile), tile + 1):
        keys = other_tile * M + tl.arange(0, M)
        products = row_products(queries, slots, everywhere, values, keys, PART, d, D, values.dtype.element_ty)
        products = tl.where(visible(slots, keys, begins), products, -float("inf"))
        higher = tl.maximum(best, tl.max(products, axis=1))
        shrink = tl.exp((best - higher) * scale)
        exps = tl.exp((products - higher[:, None]) * scale)
        total = total * shrink + tl.sum(exps, axis=1)
        v = load_rows(values, keys, d, D)
        mixed = dot(narrow(exps, v.dtype), v, mixed * shrink[:, None])
        best = higher
    tl.store(softmax_out + 2 * slots, best)
    tl.store(softmax_out + 2 * slots + 1, total)
    return mixed / total[:, None]


@triton.jit
def _rows_of(slots, slot_click, IN_SLOTS: tl.constexpr):
    """Rows of [slots, d], or of [T, d] in the order of the clicks where not IN_SLOTS, and whether there is one."""
    if IN_SLOTS:
        return slots, tl.full(slots.shape, True, tl.int1)
    click = tl.load(slot_click + slots)
    return click, click >= 0


@triton.jit
def _probabilities_and_slopes(
    values, keys, queries, slots, gradient, softmax, slot_click, slot_begin, scale,
    IN_SLOTS: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Softmax of queries in `slots` over keys in `keys`, and gradient . v, what it is differentiated by: float32[M, N].

    gradient: of the attention's output, [slots, d], or [T, d] in the order of the clicks where not IN_SLOTS.
    """
    dtype: tl.constexpr = values.dtype.element_ty
    everywhere = tl.full(slots.shape, True, tl.int1)
    products = row_products(queries, slots, everywhere, values, keys, PART, d, D, dtype)
    products = tl.where(visible(slots, keys, tl.load(slot_begin + slots)), products, -float("inf"))
    exps = tl.exp((products - tl.load(softmax + 2 * slots)[:, None]) * scale)
    rows, present = _rows_of(slots, slot_click, IN_SLOTS)
    slopes = row_products(gradient, rows, present, values, keys, PART, d, D, dtype)
    return exps / tl.load(softmax + 2 * slots + 1)[:, None], slopes


@triton.jit
def mean_slopes(
    values, queries, gradient, softmax, slot_click, slot_begin, tile_range, mean_slope_out, scale,
    IN_SLOTS: tl.constexpr, M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Write every row's mean slope under its probabilities to `mean_slope_out` float32[slots]: the softmax's backward.

    It equals gradient . output, but only to rounding, and it is subtracted from the very slopes averaged here: what
    the slopes of a row have in common cancels, and a row that sees one key has a gradient of exactly 0.
    """
    tile = tl.program_id(0)
    slots = tile * M + tl.arange(0, M)
    total = tl.zeros([M], tl.float32)
    mass = tl.zeros([M], tl.float32)  # 1 to rounding
    for other_tile in range(tl.load(tile_range + 2 * tile), tile + 1):
        keys = other_tile * M + tl.arange(0, M)
        probabilities, slopes = _probabilities_and_slopes(
            values, keys, queries, slots, gradient, softmax, slot_click, slot_begin, scale, IN_SLOTS, PART, d, D
        )
        total += tl.sum(probabilities * slopes, axis=1)
        mass += tl.sum(probabilities, axis=1)
    tl.store(mean_slope_out + slots, total / mass)


@triton.jit
def attention_backward(
    values, queries, gradient, softmax, mean_slope, slot_click, slot_begin, tile_range, query_weight,
    d_query_out, scale,
    IN_SLOTS: tl.constexpr, M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Gradient of the program's rows of `values`, as keys, values and source of the queries: float32[M, D].

    gradient: of the attention's output, [slots, d], or [T, d] in the order of the clicks where not IN_SLOTS.
    Writes the gradient of W v + b (the ReLU's input) to `d_query_out` [slots, d].
    """
    tile = tl.program_id(0)
    slots = tile * M + tl.arange(0, M)
    dtype: tl.constexpr = values.dtype.element_ty

    mean = tl.load(mean_slope + slots)
    d_query = tl.zeros([M, D], tl.float32)
    for other_tile in range(tl.load(tile_range + 2 * tile), tile + 1):
        keys = other_tile * M + tl.arange(0, M)
        probabilities, slopes = _probabilities_and_slopes(
            values, keys, queries, slots, gradient, softmax, slot_click, slot_begin, scale, IN_SLOTS, PART, d, D
        )
        d_scores = narrow(probabilities * (slopes - mean[:, None]) * scale, dtype)
        d_query = dot(d_scores, load_rows(values, keys, d, D), d_query)
    d_query = tl.where(load_rows(queries, slots, d, D) > 0, d_query, 0.0)
    store_rows(d_query_out, slots, tl.full([M], True, tl.int1), d_query, d)
    tl.debug_barrier()

    d_values = linear(d_query_out, slots, query_weight, True, PART, d, D)
    for other_tile in range(tile, tl.load(tile_range + 2 * tile + 1) + 1):
        later_slots = other_tile * M + tl.arange(0, M)
        probabilities, slopes = _probabilities_and_slopes(
            values, slots, queries, later_slots, gradient, softmax, slot_click, slot_begin, scale, IN_SLOTS, PART, d, D
        )
        d_scores = narrow(probabilities * (slopes - tl.load(mean_slope + later_slots)[:, None]) * scale, dtype)
        d_values = dot(tl.trans(d_scores), load_rows(queries, later_slots, d, D), d_values)
        rows, present = _rows_of(later_slots, slot_click, IN_SLOTS)
        upstream = narrow(load_part(gradient, rows, present, 0, D, d).to(tl.float32), dtype)
        d_values = dot(tl.trans(narrow(probabilities, dtype)), upstream, d_values)
    return d_values
