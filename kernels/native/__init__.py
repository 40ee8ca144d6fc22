"""Kernels in C++: the exact ranking of candidates, the same bits on every CPU."""

from __future__ import annotations

import numpy as np

from mtaw_fast.errors.install import install_command

try:
    from mtaw_fast.kernels.native import _native
except ImportError as error:
    raise ImportError(f"the native module of mtaw_fast is not built ({error}); build it: {install_command()}") from None

__all__ = ["rerank_topk"]


def rerank_topk(
    queries: np.ndarray, catalog: np.ndarray, candidates: np.ndarray, k: int, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Score and order each query's candidates exactly; every index ends with this.

    queries: float32[B, d]; catalog: float32[N, d]; candidates: int32[B, C], distinct in a row, in any
    order, -1 = no candidate. All C-contiguous.

    Returns (ids int32[B, k], scores float32[B, k]), best first, padded with -1 / -inf. The score is
    float32(scale * sum of q_i * e_i), accumulated in float64 in ascending dimension order. Ties go to
    the lower id; NaN scores come after every number. `reference.py` does the same in numpy.

    Raises ValueError on a wrong type or shape or k < 1, IndexError on a candidate outside -1..N-1.
    Releases the GIL.
    """
    return _native.rerank_topk(queries, catalog, candidates, k, scale)
