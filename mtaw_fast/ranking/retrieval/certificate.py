"""The proof that a float32 search misses no item, and the checks of the arguments that all searches share."""

from __future__ import annotations

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import UsageError

_UNIT = 2.0**-24  # float32's unit roundoff
_TINY = 2.0**-126  # its smallest normal number: what an underflowing product can be off by


def largest_norm(vectors: np.ndarray) -> float:
    """Return the largest Euclidean norm of the rows of float32[N, d], in float64 (0 without rows)."""
    largest = 0.0
    for begin in range(0, len(vectors), 1 << 16):
        block = vectors[begin : begin + (1 << 16)].astype(np.float64)
        largest = max(largest, float(np.einsum("nd,nd->n", block, block).max()))
    return largest**0.5


def check_arguments(queries: np.ndarray, d: int, k: int, allowed: Filter | None, n_items: int) -> None:
    """Raise UsageError on arguments that no search can take; the values of the queries are not checked."""
    if queries.ndim != 2 or queries.shape[1] != d or queries.dtype != np.float32:
        raise UsageError(f"queries must be float32[B, {d}], not {queries.dtype}{list(queries.shape)}")
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}")
    if allowed is not None:
        allowed.check(n_items)


def checked_norms(queries: np.ndarray, d: int, k: int, allowed: Filter | None, n_items: int) -> np.ndarray:
    """Check the arguments of a search, and return the norms float64[B] of its queries. Raises UsageError."""
    check_arguments(queries, d, k, allowed, n_items)
    wide = queries.astype(np.float64)
    norms = np.sqrt(np.einsum("bd,bd->b", wide, wide))
    if not np.isfinite(norms).all():
        row = int(np.flatnonzero(~np.isfinite(norms))[0])
        raise UsageError(f"query {row} is not finite; encode it with this bundle's encoder")
    return norms


def margins(d: int, query_norms: np.ndarray, catalog_norm: float, scale: float) -> np.ndarray:
    """Return float64[B]: an item whose float32 dot is this far under the k-th largest is not in the top k.

    With u = 2^-24, a float32 dot of d terms, summed in any order and with or without FMA, is within
    gamma_d |q||e| of the true one, gamma_d = d u / (1 - d u) (Higham, Accuracy and Stability of
    Numerical Algorithms, section 3.1). Let M = |q| max|e|, and t the k-th largest float32 dot. The k
    items at or over t have exact scores of at least scale (t - gamma_d M), rounded once to float32 (u M,
    the float64 errors are 2^-29 of that). An item under t - margin has at most scale (t - margin +
    gamma_d M), rounded likewise. So it loses strictly, with no tie left to the ids, where
    margin > 2 (gamma_d + 2 u) M. gamma_{d+4} >= gamma_d + 4 u also covers the rounding of the threshold.
    """
    gamma = (d + 4) * _UNIT / (1 - (d + 4) * _UNIT)
    return 2 * gamma * catalog_norm * query_norms + (d + 4) * _TINY * max(1.0, 1.0 / scale)
