"""The forward pass: interest tracking (ITL) with its FFN and LayerNorm, then interest enhancing (IEL).

A program takes one tile. Two kernels, since IEL needs the interests of a whole session, and a long session
has several tiles.
"""

import triton
import triton.language as tl

from mtaw_fast.kernels.prefix_interest.triton_kernels.attention import attention
from mtaw_fast.kernels.prefix_interest.triton_kernels.feed_forward import feed_forward, normalized
from mtaw_fast.kernels.prefix_interest.triton_kernels.tile import (
    dropout_factors,
    load_part,
    load_rows,
    load_vector,
    store_rows,
)


@triton.jit
def _place_clicks(
    clicks, slot_click, tile, seed, threshold, factor, x_out,
    DROPOUT: tl.constexpr, M: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """x of a tile's slots, after dropout, to x_out [slots, d]; 0 in an empty slot."""
    slots = tile * M + tl.arange(0, M)
    click = tl.load(slot_click + slots)
    x = load_part(clicks, click, click >= 0, 0, D, d).to(tl.float32)
    if DROPOUT:
        x *= dropout_factors(seed, 0, click, threshold, factor, D)
    store_rows(x_out, slots, tl.full([M], True, tl.int1), x, d)


@triton.jit
def interest_tracking(
    clicks, slot_click, slot_begin, tile_range, seed,
    query_weight, query_bias, in_weight, in_bias, out_weight, out_bias, norm_weight, norm_bias,
    x_out, queries_out, instant_out, hidden_out, interests_out, softmax_out,
    click_threshold, click_factor, ffn_threshold, ffn_factor, scale, eps,
    CLICK_DROPOUT: tl.constexpr, FFN_DROPOUT: tl.constexpr,
    M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """clicks [T, d] -> x, q, l', h, l [slots, d] in the compute dtype, softmax sums float32[slots, 2]."""
    tile = tl.program_id(0)
    slots = tile * M + tl.arange(0, M)
    everywhere = tl.full([M], True, tl.int1)
    # The tiles of a long session before this one are placed by their own programs too, perhaps later: the same bits.
    for other in range(tl.load(tile_range + 2 * tile), tile + 1):
        _place_clicks(clicks, slot_click, other, seed, click_threshold, click_factor, x_out, CLICK_DROPOUT, M, d, D)
    tl.debug_barrier()

    instant = attention(
        x_out, queries_out, slot_begin, tile_range, query_weight, query_bias, softmax_out, scale, M, PART, d, D
    )
    store_rows(instant_out, slots, everywhere, instant, d)
    tl.debug_barrier()

    update = feed_forward(instant_out, hidden_out, slots, in_weight, in_bias, out_weight, out_bias, PART, d, D)
    if FFN_DROPOUT:
        update *= dropout_factors(seed, 1, tl.load(slot_click + slots), ffn_threshold, ffn_factor, D)
    unit, _ = normalized(load_rows(instant_out, slots, d, D).to(tl.float32) + update, eps, d)
    interests = unit * load_vector(norm_weight, d, D) + load_vector(norm_bias, d, D)
    store_rows(interests_out, slots, everywhere, interests, d)


@triton.jit
def interest_enhancing(
    interests, slot_click, slot_begin, tile_range, query_weight, query_bias,
    queries_out, out, softmax_out, scale,
    M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """l [slots, d] -> o [T, d], in the order of the clicks, q' [slots, d] and softmax sums float32[slots, 2]."""
    o = attention(
        interests, queries_out, slot_begin, tile_range, query_weight, query_bias, softmax_out, scale, M, PART, d, D
    )
    click = tl.load(slot_click + tl.program_id(0) * M + tl.arange(0, M))
    store_rows(out, click, click >= 0, o, d)
