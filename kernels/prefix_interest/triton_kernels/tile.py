"""Rows of packed matrices, matrix products over d, masks, dropout."""

import triton
import triton.language as tl

from mtaw_fast.kernels.triton_kernels.arithmetic import dot, narrow


@triton.jit
def load_part(base, rows, present, first, WIDTH: tl.constexpr, d: tl.constexpr):
    """[M, WIDTH] columns `first` .. of rows of a matrix [.., d]; 0 where not `present` and right of d."""
    column = first + tl.arange(0, WIDTH)
    offsets = rows.to(tl.int64)[:, None] * d + column[None, :]
    return tl.load(base + offsets, mask=present[:, None] & (column < d)[None, :], other=0.0)


@triton.jit
def load_rows(base, rows, d: tl.constexpr, D: tl.constexpr):
    """[M, D] whole rows of a matrix [slots, d], 0 right of d."""
    return load_part(base, rows, tl.full(rows.shape, True, tl.int1), 0, D, d)


@triton.jit
def store_rows(base, rows, present, values, d: tl.constexpr):
    """Write [M, D] `values`, in the matrix's dtype, to the `present` rows of a matrix [.., d]."""
    column = tl.arange(0, values.shape[1])
    offsets = rows.to(tl.int64)[:, None] * d + column[None, :]
    values = narrow(values.to(tl.float32), base.dtype.element_ty)
    tl.store(base + offsets, values, mask=present[:, None] & (column < d)[None, :])


@triton.jit
def load_vector(base, d: tl.constexpr, D: tl.constexpr):
    """float32[1, D] of a vector [d], 0 right of d."""
    column = tl.arange(0, D)
    return tl.load(base + column, mask=column < d, other=0.0).to(tl.float32)[None, :]


@triton.jit
def linear(base, rows, weight, TRANSPOSED: tl.constexpr, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr):
    """float32[M, D] of A W^T, or A W where TRANSPOSED: rows A of a matrix [slots, d], W [d, d] of any dtype."""
    present = tl.full(rows.shape, True, tl.int1)
    n = tl.arange(0, D)
    total = tl.zeros([rows.shape[0], D], tl.float32)
    for first in range(0, D, PART):
        a = load_part(base, rows, present, first, PART, d)
        k = first + tl.arange(0, PART)
        inside = (k < d)[:, None] & (n < d)[None, :]
        if TRANSPOSED:
            w = tl.load(weight + k[:, None] * d + n[None, :], mask=inside, other=0.0)
        else:
            w = tl.load(weight + n[None, :] * d + k[:, None], mask=inside, other=0.0)
        total = dot(a, narrow(w.to(tl.float32), a.dtype), total)
    return total


@triton.jit
def rectified(base, rows, weight, bias, PART: tl.constexpr, d: tl.constexpr, D: tl.constexpr):
    """ReLU(A W^T + b) in A's dtype: [M, D]."""
    sums = linear(base, rows, weight, False, PART, d, D) + load_vector(bias, d, D)
    return narrow(tl.maximum(sums, 0.0), base.dtype.element_ty)


@triton.jit
def visible(queries, keys, begins):
    """bool[M, N]: whether the slot of a query, whose session begins at slot `begins`, sees the slot of a key."""
    return (keys[None, :] <= queries[:, None]) & (keys[None, :] >= begins[:, None])


@triton.jit
def dropout_factors(seed, STREAM: tl.constexpr, clicks, threshold, factor, D: tl.constexpr):
    """float32[M, D] factors of the rows `clicks`: 0, or 1 / keep probability; `dropout.py` defines the same."""
    zeros = tl.zeros([clicks.shape[0], D // 4], tl.int32)
    click = zeros + clicks[:, None]
    group = zeros + tl.arange(0, D // 4)[None, :]
    w0, w1, w2, w3 = tl.philox(tl.load(seed), click, group, zeros + STREAM, zeros)
    words = tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), [clicks.shape[0], D])
    return tl.where((words >> 8).to(tl.int32) >= threshold, factor, 0.0)
