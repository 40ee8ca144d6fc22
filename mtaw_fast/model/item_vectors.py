"""Turn item embeddings into the rows that a search compares with a query."""

from __future__ import annotations

import numpy as np

_ROWS = 1 << 16


def normalized(embeddings: np.ndarray) -> np.ndarray:
    """Return the rows of float32[N, d] divided by their length (float64, rounded once); zero rows stay zero."""
    out = np.zeros(embeddings.shape, dtype=np.float32)
    for begin in range(0, len(embeddings), _ROWS):
        rows = embeddings[begin : begin + _ROWS].astype(np.float64)
        lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        out[begin : begin + len(rows)] = rows / np.where(lengths > 0, lengths, 1)[:, None]
    return out


def mean_norm(embeddings: np.ndarray) -> float:
    """Return the mean length of the nonzero rows of float32[N, d]; 1 if all are zero."""
    total, count = 0.0, 0
    for begin in range(0, len(embeddings), _ROWS):
        rows = embeddings[begin : begin + _ROWS].astype(np.float64)
        lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        total, count = total + float(lengths.sum()), count + int(np.count_nonzero(lengths))
    return total / count if count else 1.0
