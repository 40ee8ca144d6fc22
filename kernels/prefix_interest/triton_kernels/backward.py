"""The backward pass: through IEL, LayerNorm and FFN to l', then through ITL to the clicks.

A program takes one tile, as queries (its rows' attention over the tiles up to its own) and as keys (its rows seen
by the tiles of its session that follow). Nothing is added up in memory. Probabilities, hidden layer and norm are
recomputed. Gradients of weights are sums over all rows: `weight_gradients.py`.
"""

import triton
import triton.language as tl

from mtaw_fast.kernels.prefix_interest.triton_kernels.attention import attention_backward, mean_slopes
from mtaw_fast.kernels.prefix_interest.triton_kernels.feed_forward import (
    feed_forward,
    normalized,
    normalized_backward,
)
from mtaw_fast.kernels.prefix_interest.triton_kernels.tile import (
    dropout_factors,
    linear,
    load_rows,
    load_vector,
    store_rows,
)


@triton.jit
def interest_enhancing_slopes(
    interests, queries, d_out, softmax, slot_click, slot_begin, tile_range, mean_slope_out, scale,
    M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Gradient of o [T, d] -> mean slopes of IEL's softmax float32[slots]."""
    mean_slopes(
        interests, queries, d_out, softmax, slot_click, slot_begin, tile_range, mean_slope_out, scale,
        False, M, PART, d, D,
    )  # fmt: skip


@triton.jit
def interest_enhancing_backward(
    interests, queries, instant, x, itl_queries, d_out, softmax, itl_softmax, mean_slope,
    slot_click, slot_begin, tile_range, seed,
    query_weight, in_weight, in_bias, out_weight, out_bias, norm_weight,
    d_query_out, hidden_out, d_hidden_out, d_update_out, d_instant_out, d_norm_out, itl_mean_slope_out,
    ffn_threshold, ffn_factor, scale, eps,
    FFN_DROPOUT: tl.constexpr, M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Gradient of o [T, d] -> of l' [slots, d], and what the gradients of the weights are made of.

    Writes in the compute dtype, [slots, d] each: gradients of W_q' l + b_q', of W_in l' + b_in, of the FFN's output
    and of l', and the hidden layer h. Writes the tile's gradients of LayerNorm's weight and bias to its row
    of d_norm_out float32[tiles, 2, d], and the mean slopes of ITL's softmax float32[slots].
    """
    d_interests = attention_backward(
        interests, queries, d_out, softmax, mean_slope, slot_click, slot_begin, tile_range, query_weight,
        d_query_out, scale, False, M, PART, d, D,
    )  # fmt: skip
    tile = tl.program_id(0)
    slots = tile * M + tl.arange(0, M)
    everywhere = tl.full([M], True, tl.int1)
    update = feed_forward(instant, hidden_out, slots, in_weight, in_bias, out_weight, out_bias, PART, d, D)
    click = tl.load(slot_click + slots)
    if FFN_DROPOUT:
        update *= dropout_factors(seed, 1, click, ffn_threshold, ffn_factor, D)
    unit, inverse = normalized(load_rows(instant, slots, d, D).to(tl.float32) + update, eps, d)

    column = tl.arange(0, D)
    d_norm = d_norm_out + 2 * d * tile.to(tl.int64) + column
    tl.store(d_norm, tl.sum(d_interests * unit, axis=0), mask=column < d)
    tl.store(d_norm + d, tl.sum(d_interests, axis=0), mask=column < d)

    d_sum = normalized_backward(d_interests * load_vector(norm_weight, d, D), unit, inverse, d)
    d_update = d_sum
    if FFN_DROPOUT:
        d_update *= dropout_factors(seed, 1, click, ffn_threshold, ffn_factor, D)
    store_rows(d_update_out, slots, everywhere, d_update, d)
    tl.debug_barrier()
    d_hidden = linear(d_update_out, slots, out_weight, True, PART, d, D)
    store_rows(d_hidden_out, slots, everywhere, tl.where(load_rows(hidden_out, slots, d, D) > 0, d_hidden, 0.0), d)
    tl.debug_barrier()
    d_instant = d_sum + linear(d_hidden_out, slots, in_weight, True, PART, d, D)
    store_rows(d_instant_out, slots, everywhere, d_instant, d)
    tl.debug_barrier()
    mean_slopes(
        x, itl_queries, d_instant_out, itl_softmax, slot_click, slot_begin, tile_range, itl_mean_slope_out, scale,
        True, M, PART, d, D,
    )  # fmt: skip


@triton.jit
def interest_tracking_backward(
    x, queries, d_instant, softmax, mean_slope, slot_click, slot_begin, tile_range, seed, query_weight,
    d_query_out, d_clicks_out,
    click_threshold, click_factor, scale,
    CLICK_DROPOUT: tl.constexpr, M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Gradient of l' [slots, d] -> of the clicks [T, d], and of W_q x + b_q [slots, d]."""
    d_x = attention_backward(
        x, queries, d_instant, softmax, mean_slope, slot_click, slot_begin, tile_range, query_weight,
        d_query_out, scale, True, M, PART, d, D,
    )  # fmt: skip
    click = tl.load(slot_click + tl.program_id(0) * M + tl.arange(0, M))
    if CLICK_DROPOUT:
        d_x *= dropout_factors(seed, 0, click, click_threshold, click_factor, D)
    store_rows(d_clicks_out, click, click >= 0, d_x, d)
