"""The forward pass: interest tracking (ITL) with its FFN and LayerNorm, then interest enhancing (IEL).

Two kernels, since IEL needs the interests of a whole session and a long session has several tiles.
A program takes one tile. It attends over the tiles from `tile_range[0]` to its own: for tiles of whole
sessions that is its own alone.
"""

import triton
import triton.language as tl

from mtaw_fast.kernels.prefix_interest.triton_kernels.attention import attend
from mtaw_fast.kernels.prefix_interest.triton_kernels.feed_forward import feed_forward, normalised
from mtaw_fast.kernels.prefix_interest.triton_kernels.tile import (
    dropout_factors,
    load_rows,
    load_vector,
    rectified,
    store_rows,
    visible,
)
from mtaw_fast.kernels.triton_kernels.arithmetic import narrow


@triton.jit
def _load_clicks(clicks, slots, slot_click, seed, threshold, factor, DROPOUT: tl.constexpr, DTYPE: tl.constexpr,
                 d: tl.constexpr, D: tl.constexpr):  # fmt: skip
    """x of the slots, after dropout: [M, D] in the compute dtype; 0 in an empty slot."""
    click = tl.load(slot_click + slots)
    x = load_rows(clicks, click, click >= 0, d, D).to(tl.float32)
    if DROPOUT:
        x *= dropout_factors(seed, 0, click, threshold, factor, D)
    return narrow(x, DTYPE)


@triton.jit
def interest_tracking(
    clicks, slot_click, slot_begin, tile_range, seed,
    query_weight, query_bias, in_weight, in_bias, out_weight, out_bias, norm_weight, norm_bias,
    x_out, instant_out, interests_out, log_total_out,
    click_threshold, click_factor, ffn_threshold, ffn_factor, scale, eps,
    CLICK_DROPOUT: tl.constexpr, FFN_DROPOUT: tl.constexpr,
    DTYPE: tl.constexpr, M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """clicks [T, d] -> x, l', l [slots, d] in DTYPE and log of ITL's softmax denominators float32[slots]."""
    tile = tl.program_id(0)
    slots = tile * M + tl.arange(0, M)
    begins = tl.load(slot_begin + slots)
    x = _load_clicks(clicks, slots, slot_click, seed, click_threshold, click_factor, CLICK_DROPOUT, DTYPE, d, D)
    everywhere = tl.full([M], True, tl.int1)
    store_rows(x_out, slots, everywhere, x, d, D)

    queries = rectified(x, query_weight, query_bias, PART, d)
    best = tl.full([M], -float("inf"), tl.float32)
    total = tl.zeros([M], tl.float32)
    mixed = tl.zeros([M, D], tl.float32)
    best, total, mixed = attend(queries, x, visible(slots, slots, begins), best, total, mixed, scale, PART)
    for other in range(tl.load(tile_range + 2 * tile), tile):
        keys = other * M + tl.arange(0, M)
        values = _load_clicks(clicks, keys, slot_click, seed, click_threshold, click_factor, CLICK_DROPOUT, DTYPE, d, D)
        best, total, mixed = attend(queries, values, visible(slots, keys, begins), best, total, mixed, scale, PART)
    instant = narrow(mixed / total[:, None], DTYPE)
    store_rows(instant_out, slots, everywhere, instant, d, D)
    tl.store(log_total_out + slots, best + tl.log(total))

    _, update = feed_forward(instant, in_weight, in_bias, out_weight, out_bias, PART, d)
    if FFN_DROPOUT:
        update *= dropout_factors(seed, 1, tl.load(slot_click + slots), ffn_threshold, ffn_factor, D)
    unit, _ = normalised(instant.to(tl.float32) + update, eps, d)
    interests = unit * load_vector(norm_weight, d, D) + load_vector(norm_bias, d, D)
    store_rows(interests_out, slots, everywhere, interests, d, D)


@triton.jit
def interest_enhancing(
    interests, slot_click, slot_begin, tile_range, query_weight, query_bias,
    out, log_total_out,
    scale,
    M: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """l [slots, d] -> o [T, d], in the order of the clicks, and log of IEL's softmax denominators float32[slots]."""
    tile = tl.program_id(0)
    slots = tile * M + tl.arange(0, M)
    begins = tl.load(slot_begin + slots)
    everywhere = tl.full([M], True, tl.int1)
    own = load_rows(interests, slots, everywhere, d, D)

    queries = rectified(own, query_weight, query_bias, PART, d)
    best = tl.full([M], -float("inf"), tl.float32)
    total = tl.zeros([M], tl.float32)
    mixed = tl.zeros([M, D], tl.float32)
    best, total, mixed = attend(queries, own, visible(slots, slots, begins), best, total, mixed, scale, PART)
    for other in range(tl.load(tile_range + 2 * tile), tile):
        keys = other * M + tl.arange(0, M)
        values = load_rows(interests, keys, everywhere, d, D)
        best, total, mixed = attend(queries, values, visible(slots, keys, begins), best, total, mixed, scale, PART)
    tl.store(log_total_out + slots, best + tl.log(total))
    click = tl.load(slot_click + slots)
    store_rows(out, click, click >= 0, mixed / total[:, None], d, D)
