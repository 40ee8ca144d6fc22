"""What the kernels over B x N tiles share: loads that pad to powers of two in registers, cosines, gradient entries."""

import triton
import triton.language as tl

from mtaw_fast.kernels.triton_kernels.arithmetic import dot


@triton.jit
def load_tile(matrix_p, rows, n_rows, stride, first_column, D: tl.constexpr, COLUMNS: tl.constexpr):
    """Rows of a row-major matrix, [len(rows), COLUMNS] from `first_column` on; 0 beyond n_rows and beyond D."""
    columns = first_column + tl.arange(0, COLUMNS)
    # In 64 bits: rows * stride passes 2^31 in large catalogs.
    offsets = rows.to(tl.int64)[:, None] * stride + columns[None, :]
    return tl.load(matrix_p + offsets, mask=(rows < n_rows)[:, None] & (columns < D)[None, :], other=0.0)


@triton.jit
def chunked_dot(
    a_p, a_rows, n_a, b_p, b_rows, n_b, D: tl.constexpr, A: tl.constexpr, B: tl.constexpr, DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """float32[A, B] products of rows of two contiguous matrices [.., D], in chunks of DEPTH columns."""
    products = tl.zeros((A, B), tl.float32)
    for first in range(0, D, DEPTH):
        a = load_tile(a_p, a_rows, n_a, D, first, D, DEPTH)
        b = load_tile(b_p, b_rows, n_b, D, first, D, DEPTH)
        products = dot(a, tl.trans(b), products, PRECISION)
    return products


@triton.jit
def load_targets(targets_p, rows, n_rows, first_item, n_items):
    """int32 numbers of the rows' targets within the slice; -1 where the target lies elsewhere."""
    targets = tl.load(targets_p + rows, mask=rows < n_rows, other=-1) - first_item
    return tl.where((targets >= 0) & (targets < n_items), targets, -1).to(tl.int32)


@triton.jit
def shifted_exp(cosines, scale_log2e):
    """exp(z - scale / 2) of z = scale * cosine, as a power of two: one multiply-add and one instruction."""
    return tl.exp2(cosines * scale_log2e - 0.5 * scale_log2e)
