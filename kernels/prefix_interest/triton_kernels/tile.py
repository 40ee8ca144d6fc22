"""Tiles in registers: loading rows, matrix products over d, masks, dropout."""

import triton
import triton.language as tl

from mtaw_fast.kernels.triton_kernels.arithmetic import dot, narrow


@triton.jit
def load_rows(base, rows, present, d: tl.constexpr, D: tl.constexpr):
    """[M, D] rows of a matrix [.., d]; 0 where not `present` and right of d."""
    column = tl.arange(0, D)
    places = rows.to(tl.int64)[:, None] * d + column[None, :]
    return tl.load(base + places, mask=present[:, None] & (column < d)[None, :], other=0.0)


@triton.jit
def store_rows(base, rows, present, values, d: tl.constexpr, D: tl.constexpr):
    """Write [M, D] `values`, in the matrix's dtype, to the `present` rows of a matrix [.., d]."""
    column = tl.arange(0, D)
    places = rows.to(tl.int64)[:, None] * d + column[None, :]
    values = narrow(values.to(tl.float32), base.dtype.element_ty)
    tl.store(base + places, values, mask=present[:, None] & (column < d)[None, :])


@triton.jit
def load_vector(base, d: tl.constexpr, D: tl.constexpr):
    """float32[1, D] of a vector [d], 0 right of d."""
    column = tl.arange(0, D)
    return tl.load(base + column, mask=column < d, other=0.0).to(tl.float32)[None, :]


@triton.jit
def left_and_right(x):
    """The two halves of a tile's columns."""
    rows: tl.constexpr = x.shape[0]
    half: tl.constexpr = x.shape[1] // 2
    return tl.split(tl.permute(tl.reshape(x, [rows, 2, half]), [0, 2, 1]))


@triton.jit
def dot_rows(a, b, PART: tl.constexpr):
    """float32[M, N] products of the rows of a [M, D] and b [N, D].

    A float32 product holds the whole of both operands in registers, so they are cut into PART columns.
    """
    total = tl.zeros([a.shape[0], b.shape[0]], tl.float32)
    if a.shape[1] <= PART:
        total = dot(a, tl.trans(b), total)
    else:
        a0, a1 = left_and_right(a)
        b0, b1 = left_and_right(b)
        if a0.shape[1] <= PART:
            total = dot(a0, tl.trans(b0), total)
            total = dot(a1, tl.trans(b1), total)
        else:
            tl.static_assert(a0.shape[1] == 2 * PART)
            a00, a01 = left_and_right(a0)
            a10, a11 = left_and_right(a1)
            b00, b01 = left_and_right(b0)
            b10, b11 = left_and_right(b1)
            total = dot(a00, tl.trans(b00), total)
            total = dot(a01, tl.trans(b01), total)
            total = dot(a10, tl.trans(b10), total)
            total = dot(a11, tl.trans(b11), total)
    return total


@triton.jit
def _add_product(total, a, weight, first, TRANSPOSED: tl.constexpr, d: tl.constexpr, D: tl.constexpr):
    """total + a W[:, first:]^T, or a W[first:, :] where TRANSPOSED, for columns `first` .. of the whole `a`."""
    k = first + tl.arange(0, a.shape[1])
    n = tl.arange(0, D)
    present = (k < d)[:, None] & (n < d)[None, :]
    if TRANSPOSED:
        part = tl.load(weight + k[:, None] * d + n[None, :], mask=present, other=0.0)
    else:
        part = tl.load(weight + n[None, :] * d + k[:, None], mask=present, other=0.0)
    return dot(a, narrow(part.to(tl.float32), a.dtype), total)


@triton.jit
def linear(a, weight, TRANSPOSED: tl.constexpr, PART: tl.constexpr, d: tl.constexpr):
    """float32[M, D] of a W^T, or of a W where TRANSPOSED: a [M, D], W [d, d] in memory."""
    D: tl.constexpr = a.shape[1]
    total = tl.zeros(a.shape, tl.float32)
    if D <= PART:
        total = _add_product(total, a, weight, 0, TRANSPOSED, d, D)
    else:
        a0, a1 = left_and_right(a)
        if a0.shape[1] <= PART:
            total = _add_product(total, a0, weight, 0, TRANSPOSED, d, D)
            total = _add_product(total, a1, weight, PART, TRANSPOSED, d, D)
        else:
            a00, a01 = left_and_right(a0)
            a10, a11 = left_and_right(a1)
            total = _add_product(total, a00, weight, 0, TRANSPOSED, d, D)
            total = _add_product(total, a01, weight, PART, TRANSPOSED, d, D)
            total = _add_product(total, a10, weight, 2 * PART, TRANSPOSED, d, D)
            total = _add_product(total, a11, weight, 3 * PART, TRANSPOSED, d, D)
    return total


@triton.jit
def rectified(a, weight, bias, PART: tl.constexpr, d: tl.constexpr):
    """ReLU(a W^T + b) in a's dtype: [M, D]."""
    return narrow(tl.maximum(linear(a, weight, False, PART, d) + load_vector(bias, d, a.shape[1]), 0.0), a.dtype)


@triton.jit
def visible(queries, keys, begins):
    """bool[M, N]: whether the slot of a query, whose session begins at slot `begins`, sees the slot of a key."""
    return (keys[None, :] <= queries[:, None]) & (keys[None, :] >= begins[:, None])


@triton.jit
def dropout_factors(seed, STREAM: tl.constexpr, clicks, threshold, factor, D: tl.constexpr):
    """float32[M, D] factors of the rows `clicks`: 0, or 1 / keep probability; `dropout.py` defines the same."""
    group = tl.arange(0, D // 4)[None, :]
    counter = tl.zeros([clicks.shape[0], D // 4], tl.uint32)
    key = tl.load(seed)
    a, b, c, e = tl.philox(
        key, counter + clicks.to(tl.uint32)[:, None], counter + group.to(tl.uint32), counter + STREAM, counter
    )
    bits = tl.reshape(tl.join(tl.join(a, c), tl.join(b, e)), [clicks.shape[0], D])
    return tl.where((bits >> 8).to(tl.int32) >= threshold, factor, 0.0)
