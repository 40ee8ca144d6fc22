"""Turn item embeddings into the rows that a search compares with a query."""

from __future__ import annotations

import numpy as np

_BLOCK = 1 << 12  # rows that are float64 at a time
_SUMMED = 1 << 16  # rows whose lengths are summed together: the mean's last bits depend on it


def normalized(embeddings: np.ndarray) -> np.ndarray:
    """Return the rows of float32[N, d] divided by their length (float64, rounded once); zero rows stay zero.

    A length is summed in ascending order of d, so it is the same on every CPU.
    """
    result = np.zeros(embeddings.shape, dtype=np.float32)
    for begin in range(0, len(embeddings), _BLOCK):
        rows = embeddings[begin : begin + _BLOCK].astype(np.float64)
        lengths = _lengths(rows)
        result[begin : begin + len(rows)] = rows / np.where(lengths > 0, lengths, 1)[:, None]
    return result


def mean_norm(embeddings: np.ndarray) -> float:
    """Return the mean length of the nonzero rows of float32[N, d]; 1 if all are zero."""
    total, count = 0.0, 0
    for begin in range(0, len(embeddings), _SUMMED):
        chunk = embeddings[begin : begin + _SUMMED]
        blocks = (chunk[first : first + _BLOCK].astype(np.float64) for first in range(0, len(chunk), _BLOCK))
        lengths = np.concatenate([_lengths(block) for block in blocks])
        total, count = total + float(lengths.sum()), count + int(np.count_nonzero(lengths))
    return total / count if count else 1.0


def _lengths(rows: np.ndarray) -> np.ndarray:
    squares = np.zeros(len(rows))
    for column in np.ascontiguousarray(rows.T):
        squares += column * column
    return np.sqrt(squares)
