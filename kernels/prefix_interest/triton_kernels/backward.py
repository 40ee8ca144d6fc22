"""The backward pass: through IEL, LayerNorm and FFN to l', then through ITL to the clicks.

A program takes one tile, as query (its rows' attention over the tiles up to its own) and as key (its rows seen by
later tiles of a session that runs on). Nothing is added in memory. Probabilities, queries, hidden layer and
norm are computed anew from x, l' and l. Gradients of weights are sums over all rows: `weight_gradients.py`.
"""

import triton
import triton.language as tl

from mtaw_fast.kernels.prefix_interest.triton_kernels.attention import score_gradients
from mtaw_fast.kernels.prefix_interest.triton_kernels.feed_forward import feed_forward, normalised
from mtaw_fast.kernels.prefix_interest.triton_kernels.tile import (
    dropout_factors,
    linear,
    load_rows,
    load_vector,
    rectified,
    store_rows,
    visible,
)
from mtaw_fast.kernels.triton_kernels.arithmetic import dot, narrow


@triton.jit
def _load_upstream(gradient, output, slots, slot_click, IN_SLOTS: tl.constexpr, DTYPE: tl.constexpr, d: tl.constexpr,
                   D: tl.constexpr):  # fmt: skip
    """Gradient of the attention's output in the slots, [M, D], and its product with that output, float32[M].

    gradient and output are [slots, d], or [T, d] in the order of the clicks where not IN_SLOTS.
    """
    rows = slots
    present = tl.full(slots.shape, True, tl.int1)
    if not IN_SLOTS:
        rows = tl.load(slot_click + slots)
        present = rows >= 0
    upstream = load_rows(gradient, rows, present, d, D).to(tl.float32)
    along = tl.sum(upstream * load_rows(output, rows, present, d, D).to(tl.float32), axis=1)
    return narrow(upstream, DTYPE), along


@triton.jit
def _attention_backward(
    values, gradient, output, log_totals, slot_click, slot_begin, tile_range, query_weight, query_bias,
    query_gradient_out, scale,
    IN_SLOTS: tl.constexpr, M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Gradient of the program's rows of `values`, as keys, values and source of the queries: float32[M, D].

    Writes the gradient of W v + b (the ReLU's input) to `query_gradient_out` [slots, d].
    """
    tile = tl.program_id(0)
    slots = tile * M + tl.arange(0, M)
    everywhere = tl.full([M], True, tl.int1)
    begins = tl.load(slot_begin + slots)
    own = load_rows(values, slots, everywhere, d, D)
    queries = rectified(own, query_weight, query_bias, PART, d)
    upstream, along = _load_upstream(gradient, output, slots, slot_click, IN_SLOTS, own.dtype, d, D)
    log_total = tl.load(log_totals + slots)

    seen = visible(slots, slots, begins)
    probabilities, slopes = score_gradients(queries, own, upstream, seen, log_total, along, scale, PART)
    d_own = dot(tl.trans(probabilities), upstream, tl.zeros([M, D], tl.float32))
    d_own = dot(tl.trans(slopes), queries, d_own)
    d_queries = dot(slopes, own, tl.zeros([M, D], tl.float32))

    for other in range(tl.load(tile_range + 2 * tile), tile):  # keys before the tile
        keys = other * M + tl.arange(0, M)
        earlier = load_rows(values, keys, everywhere, d, D)
        seen = visible(slots, keys, begins)
        probabilities, slopes = score_gradients(queries, earlier, upstream, seen, log_total, along, scale, PART)
        d_queries = dot(slopes, earlier, d_queries)
    d_rectified = narrow(tl.where(queries > 0, d_queries, 0.0), own.dtype)
    store_rows(query_gradient_out, slots, everywhere, d_rectified, d, D)
    d_own += linear(d_rectified, query_weight, True, PART, d)

    for other in range(tile + 1, tl.load(tile_range + 2 * tile + 1) + 1):  # queries after the tile
        later = other * M + tl.arange(0, M)
        queries = rectified(load_rows(values, later, everywhere, d, D), query_weight, query_bias, PART, d)
        upstream, along = _load_upstream(gradient, output, later, slot_click, IN_SLOTS, own.dtype, d, D)
        log_total = tl.load(log_totals + later)
        seen = visible(later, slots, tl.load(slot_begin + later))
        probabilities, slopes = score_gradients(queries, own, upstream, seen, log_total, along, scale, PART)
        d_own = dot(tl.trans(probabilities), upstream, d_own)
        d_own = dot(tl.trans(slopes), queries, d_own)
    return d_own


@triton.jit
def interest_enhancing_backward(
    interests, instant, d_out, out, log_totals, slot_click, slot_begin, tile_range, seed,
    query_weight, query_bias, in_weight, in_bias, out_weight, out_bias, norm_weight,
    d_query_out, hidden_out, d_hidden_out, d_update_out, d_instant_out, d_norm_out,
    ffn_threshold, ffn_factor, scale, eps,
    FFN_DROPOUT: tl.constexpr, M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Gradient of o [T, d] -> of l' [slots, d], and what the gradients of the weights are made of.

    Writes in the compute dtype, [slots, d] each: gradients of W_q' l + b_q', of W_in l' + b_in, of the FFN's output
    and of l', and the hidden layer h. Writes the tile's gradients of LayerNorm's weight and bias to its row
    of d_norm_out float32[tiles, 2, d].
    """
    d_interests = _attention_backward(
        interests, d_out, out, log_totals, slot_click, slot_begin, tile_range, query_weight, query_bias,
        d_query_out, scale, False, M, PART, d, D,
    )  # fmt: skip
    tile = tl.program_id(0)
    slots = tile * M + tl.arange(0, M)
    everywhere = tl.full([M], True, tl.int1)
    v = load_rows(instant, slots, everywhere, d, D)
    hidden, update = feed_forward(v, in_weight, in_bias, out_weight, out_bias, PART, d)
    store_rows(hidden_out, slots, everywhere, hidden, d, D)
    if FFN_DROPOUT:
        factors = dropout_factors(seed, 1, tl.load(slot_click + slots), ffn_threshold, ffn_factor, D)
        update *= factors
    unit, inverse = normalised(v.to(tl.float32) + update, eps, d)

    column = tl.arange(0, D)
    d_norm = d_norm_out + 2 * d * tile.to(tl.int64) + column
    tl.store(d_norm, tl.sum(d_interests * unit, axis=0), mask=column < d)
    tl.store(d_norm + d, tl.sum(d_interests, axis=0), mask=column < d)

    d_unit = d_interests * load_vector(norm_weight, d, D)  # 0 right of d
    mean = tl.sum(d_unit, axis=1) / d
    along_unit = tl.sum(d_unit * unit, axis=1) / d
    d_sum = (d_unit - mean[:, None] - unit * along_unit[:, None]) * inverse[:, None]
    d_sum = tl.where((column < d)[None, :], d_sum, 0.0)
    d_update = d_sum
    if FFN_DROPOUT:
        d_update *= factors
    d_update = narrow(d_update, v.dtype)
    store_rows(d_update_out, slots, everywhere, d_update, d, D)
    d_hidden = narrow(tl.where(hidden > 0, linear(d_update, out_weight, True, PART, d), 0.0), v.dtype)
    store_rows(d_hidden_out, slots, everywhere, d_hidden, d, D)
    store_rows(d_instant_out, slots, everywhere, d_sum + linear(d_hidden, in_weight, True, PART, d), d, D)


@triton.jit
def interest_tracking_backward(
    x, instant, d_instant, log_totals, slot_click, slot_begin, tile_range, seed, query_weight, query_bias,
    d_query_out, d_clicks_out,
    click_threshold, click_factor, scale,
    CLICK_DROPOUT: tl.constexpr, M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Gradient of l' [slots, d] -> of the clicks [T, d], and of W_q x + b_q [slots, d]."""
    d_x = _attention_backward(
        x, d_instant, instant, log_totals, slot_click, slot_begin, tile_range, query_weight, query_bias,
        d_query_out, scale, True, M, PART, d, D,
    )  # fmt: skip
    click = tl.load(slot_click + tl.program_id(0) * M + tl.arange(0, M))
    if CLICK_DROPOUT:
        d_x *= dropout_factors(seed, 0, click, click_threshold, click_factor, D)
    store_rows(d_clicks_out, click, click >= 0, d_x, d, D)
