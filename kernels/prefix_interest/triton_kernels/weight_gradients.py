"""Gradients of the four linear layers: sums over all slots, in a fixed order and without atomics.

A program sums one part of the slots into a place of its own; `add_parts` then adds the parts, first to last.
"""

import triton
import triton.language as tl

from mtaw_fast.kernels.triton_kernels.arithmetic import dot


@triton.jit
def linear_gradients(
    gradient_0, input_0, gradient_1, input_1, gradient_2, input_2, gradient_3, input_3, parts_out,
    n_slots, slots_a_part,
    STEP: tl.constexpr, ROWS: tl.constexpr, d: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Of y = W v + b: dW = sum dy v^T and db = sum dy over the slots of a part, in float32.

    gradient_k (dy) and input_k (v) [slots, d] of layer k. parts_out float32[parts, 4, d + 1, d]: dW, then db.
    The grid is (parts, 4 layers, blocks of ROWS rows of W).
    """
    layer = tl.program_id(1)
    gradient, values = gradient_0, input_0
    if layer == 1:
        gradient, values = gradient_1, input_1
    if layer == 2:
        gradient, values = gradient_2, input_2
    if layer == 3:
        gradient, values = gradient_3, input_3

    row = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, D)
    weight = tl.zeros([ROWS, D], tl.float32)
    bias = tl.zeros([ROWS], tl.float32)
    begin = tl.program_id(0) * slots_a_part
    end = tl.minimum(begin + slots_a_part, n_slots)
    for slot in range(begin, end, STEP):
        slots = (slot + tl.arange(0, STEP)).to(tl.int64)
        inside = slots < end
        dy = tl.load(gradient + slots[None, :] * d + row[:, None], mask=(row < d)[:, None] & inside[None, :], other=0.0)
        v = tl.load(
            values + slots[:, None] * d + column[None, :], mask=inside[:, None] & (column < d)[None, :], other=0.0
        )
        weight = dot(dy, v, weight)
        bias += tl.sum(dy.to(tl.float32), axis=1)

    out = parts_out + (tl.program_id(0).to(tl.int64) * 4 + layer) * (d + 1) * d
    tl.store(out + row[:, None] * d + column[None, :], weight, mask=(row < d)[:, None] & (column < d)[None, :])
    tl.store(out + d * d + row, bias, mask=row < d)


@triton.jit
def add_parts(parts, out, n_parts, size, BLOCK: tl.constexpr):
    """out[i] = parts[0, i] + parts[1, i] + ..: float32[n_parts, size] -> float32[size]."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    part = parts + column
    for _ in range(n_parts):
        total += tl.load(part, mask=column < size, other=0.0)
        part += size
    tl.store(out + column, total, mask=column < size)
