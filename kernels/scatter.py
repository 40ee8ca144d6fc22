"""Adding rows to rows of a matrix in one order, so that a run repeats bit for bit on every device."""

from __future__ import annotations

from torch import Tensor


def add_rows(matrix: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """matrix[rows[i]] += values[i] for every i, in place; repeated rows add up in one order. Returns the matrix.

    Parameters
    ----------
    matrix : float[N, d]
        Only the rows named are touched: no N x d array of zeros is made.
    rows : int64[T]
        In 0..N-1, on the matrix's device. Not waited for, so the call can be part of a captured CUDA graph.
    values : float[T, d]
        In the matrix's dtype.
    """
    if matrix.is_cuda:
        # index_add_ is atomic there; an accumulating index_put_ sorts the rows (stably) and sums each one's values.
        return matrix.index_put_((rows,), values, accumulate=True)
    return matrix.index_add_(0, rows, values)  # in the order of i, whatever the number of threads
