"""Check answers against float64: rankings, vectors and gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TIE = 1e-5  # items whose true scores are this close may have either order


def ranking_error(ids: np.ndarray, scores: np.ndarray, truth: np.ndarray, tie: float = TIE) -> str | None:
    """Return why the rankings are not the top k of `truth` up to ties, or None.

    ids: int[B, k], scores: float[B, k], best first. truth: float64[B, N], the true scores of the whole catalog.
    The item at each position must have the true score of the position within `tie`, and its given score must match it.
    """
    rows, k = ids.shape
    if rows != len(truth):
        return f"{rows} rankings for {len(truth)} sessions"
    for row in range(rows):
        if ids[row].min() < 0 or ids[row].max() >= truth.shape[1]:
            return f"session {row}: ids outside the catalog"
        if len(np.unique(ids[row])) != k:
            return f"session {row}: an item is listed twice"
        best = -np.sort(np.partition(-truth[row], k - 1)[:k])[:k]
        ranked = truth[row][ids[row]]
        wrong = np.flatnonzero(~(np.abs(ranked - best) <= tie))
        if len(wrong):
            column = int(wrong[0])
            return (
                f"session {row}, rank {column + 1}: item {ids[row][column]} has the true score {ranked[column]:.6f}, "
                f"{best[column]:.6f} belongs there ({len(wrong)} of {k} ranks differ)"
            )
        error = float(np.abs(scores[row] - ranked).max())
        if not error <= tie:
            return f"session {row}: a score is off by {error:.2g}, more than {tie:g}"
    return None


def vectors_error(vectors: np.ndarray, truth: np.ndarray, tolerance: float) -> str | None:
    """Return why `vectors` [B, d] differ from `truth` [B, d] by more than `tolerance` in a coordinate, or None."""
    if vectors.shape != truth.shape:
        return f"vectors of shape {list(vectors.shape)}, not {list(truth.shape)}"
    error = float(np.abs(vectors - truth).max())
    return None if error <= tolerance else f"a coordinate is off by {error:.2g}, more than {tolerance:g}"


def step_error(
    loss: float,
    gradients: Sequence[np.ndarray],
    true_loss: float,
    true_gradients: Sequence[np.ndarray],
    tolerance: float,
) -> str | None:
    """Return why a step is wrong, or None, by the relative errors of its loss and of each gradient's norm."""
    if not abs(loss - true_loss) <= tolerance * abs(true_loss):
        return f"the loss is {loss:.6g}, not {true_loss:.6g} within {tolerance:g}"
    for number, (gradient, truth) in enumerate(zip(gradients, true_gradients, strict=True)):
        error = float(np.linalg.norm(gradient - truth)) / max(float(np.linalg.norm(truth)), 1e-30)
        if not error <= tolerance:
            return f"gradient {number} {list(truth.shape)} is off by {error:.2g} of its norm, more than {tolerance:g}"
    return None
