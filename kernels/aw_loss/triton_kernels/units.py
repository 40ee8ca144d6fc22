"""Rows to unit vectors in the dtype of the matrix products."""

import triton
import triton.language as tl

from mtaw_fast.kernels.aw_loss.triton_kernels.tiles import load_tile
from mtaw_fast.kernels.triton_kernels.arithmetic import narrow

SMALLEST_NORM = tl.constexpr(1e-12)  # torch.nn.functional.normalize's


@triton.jit
def inverse_norm(rows):
    """1 / |v| of every row of float32[R, COLUMNS]: float32[R]."""
    return 1.0 / tl.maximum(tl.sqrt(tl.sum(rows * rows, axis=1)), SMALLEST_NORM)


@triton.jit(do_not_specialize=["n_rows"])
def unit_rows(
    vectors_p,  # [n_rows, D], rows `stride` apart
    units_p,  # [n_rows, WIDTH]
    inverse_norms_p,  # float32[n_rows]
    n_rows,
    stride,
    D: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """units = vectors / |vectors|, inverse_norms = 1 / |vectors|, for ROWS rows a program.

    Zeros go into the columns D .. WIDTH - 1, so that what reads whole rows needs no mask within 16 bytes.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    vectors = load_tile(vectors_p, rows, n_rows, stride, 0, D, COLUMNS).to(tl.float32)
    inverse = inverse_norm(vectors)
    offsets = rows.to(tl.int64)[:, None] * WIDTH + columns[None, :]
    mask = (rows < n_rows)[:, None] & (columns < WIDTH)[None, :]
    tl.store(units_p + offsets, narrow(vectors * inverse[:, None], units_p.dtype.element_ty), mask=mask)
    tl.store(inverse_norms_p + rows, inverse, mask=rows < n_rows)
