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

_LOW = tl.constexpr(-1e30)  # below every score, and finite: a row that sees no key of a tile stays a number


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
    values, queries, slot_begin, tile_range, query_weight, query_bias, log_total_out, scale,
    M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Attention of the program's tile with q = ReLU(W v + b): float32[M, D].

    values [slots, d]. Writes q to `queries` [slots, d] and the log of the softmax's denominators to
    `log_total_out` float32[slots].
    """
    tile = tl.program_id(0)
    slots = tile * M + tl.arange(0, M)
    everywhere = tl.full([M], True, tl.int1)
    begins = tl.load(slot_begin + slots)
    store_rows(queries, slots, everywhere, rectified(values, slots, query_weight, query_bias, PART, d, D), d)
    tl.debug_barrier()

    best = tl.full([M], _LOW, tl.float32)  # the largest score so far
    total = tl.zeros([M], tl.float32)  # sum of exp(score - best)
    mixed = tl.zeros([M, D], tl.float32)  # sum of exp(score - best) * value
    for other in range(tl.load(tile_range + 2 * tile), tile + 1):
        keys = other * M + tl.arange(0, M)
        products = row_products(queries, slots, everywhere, values, keys, PART, d, D, values.dtype.element_ty)
        scores = tl.where(visible(slots, keys, begins), products * scale, -float("inf"))
        higher = tl.maximum(best, tl.max(scores, axis=1))
        shrink = tl.exp(best - higher)
        exps = tl.exp(scores - higher[:, None])
        total = total * shrink + tl.sum(exps, axis=1)
        v = load_rows(values, keys, d, D)
        mixed = dot(narrow(exps, v.dtype), v, mixed * shrink[:, None])
        best = higher
    tl.store(log_total_out + slots, best + tl.log(total))
    return mixed / total[:, None]


@triton.jit
def _score_gradients(
    values, keys, queries, slots, gradient, rows, present, along, log_totals, slot_begin, scale,
    PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Probabilities and the gradients of q . v of queries in `slots` and keys in `keys`: [M, N] in V's dtype.

    rows, present: where those slots' gradients stand. along float32[M]: gradient . output.
    """
    dtype: tl.constexpr = values.dtype.element_ty
    everywhere = tl.full(slots.shape, True, tl.int1)
    scores = row_products(queries, slots, everywhere, values, keys, PART, d, D, dtype) * scale
    scores = tl.where(visible(slots, keys, tl.load(slot_begin + slots)), scores, -float("inf"))
    probabilities = tl.exp(scores - tl.load(log_totals + slots)[:, None])
    slopes = row_products(gradient, rows, present, values, keys, PART, d, D, dtype) - along[:, None]
    return narrow(probabilities, dtype), narrow(probabilities * slopes * scale, dtype)


@triton.jit
def _rows_of(slots, slot_click, IN_SLOTS: tl.constexpr):
    """Rows of [slots, d], or of [T, d] in the order of the clicks where not IN_SLOTS, and whether there is one."""
    if IN_SLOTS:
        return slots, tl.full(slots.shape, True, tl.int1)
    click = tl.load(slot_click + slots)
    return click, click >= 0


@triton.jit
def _load_upstream(gradient, output, rows, present, d: tl.constexpr, D: tl.constexpr):
    """Rows of the output's gradient, float32[M, D], and their product with the output, float32[M]."""
    upstream = load_part(gradient, rows, present, 0, D, d).to(tl.float32)
    return upstream, tl.sum(upstream * load_part(output, rows, present, 0, D, d).to(tl.float32), axis=1)


@triton.jit
def attention_backward(
    values, queries, gradient, output, log_totals, slot_click, slot_begin, tile_range, query_weight,
    d_query_out, scale,
    IN_SLOTS: tl.constexpr, M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Gradient of the program's rows of `values`, as keys, values and source of the queries: float32[M, D].

    gradient and output are [slots, d], or [T, d] in the order of the clicks where not IN_SLOTS. Writes the
    gradient of W v + b (the ReLU's input) to `d_query_out` [slots, d].
    """
    tile = tl.program_id(0)
    slots = tile * M + tl.arange(0, M)
    dtype: tl.constexpr = values.dtype.element_ty

    rows, present = _rows_of(slots, slot_click, IN_SLOTS)
    along = _load_upstream(gradient, output, rows, present, d, D)[1]
    d_query = tl.zeros([M, D], tl.float32)
    for other in range(tl.load(tile_range + 2 * tile), tile + 1):
        keys = other * M + tl.arange(0, M)
        slopes = _score_gradients(
            values, keys, queries, slots, gradient, rows, present, along, log_totals, slot_begin, scale, PART, d, D
        )[1]
        d_query = dot(slopes, load_rows(values, keys, d, D), d_query)
    d_query = tl.where(load_rows(queries, slots, d, D) > 0, d_query, 0.0)
    store_rows(d_query_out, slots, tl.full([M], True, tl.int1), d_query, d)
    tl.debug_barrier()

    d_values = linear(d_query_out, slots, query_weight, True, PART, d, D)
    for other in range(tile, tl.load(tile_range + 2 * tile + 1) + 1):
        later = other * M + tl.arange(0, M)
        rows, present = _rows_of(later, slot_click, IN_SLOTS)
        upstream, along = _load_upstream(gradient, output, rows, present, d, D)
        probabilities, slopes = _score_gradients(
            values, slots, queries, later, gradient, rows, present, along, log_totals, slot_begin, scale, PART, d, D
        )
        d_values = dot(tl.trans(probabilities), narrow(upstream, dtype), d_values)
        d_values = dot(tl.trans(slopes), load_rows(queries, later, d, D), d_values)
    return d_values
