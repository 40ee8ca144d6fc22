"""Vectors of items that no training has seen: where the items lie that they are clicked with.

Axes: d dimensions, P neighbors of one item.
"""

from __future__ import annotations

import numpy as np

GIVEN_WEIGHT = 3.0  # a vector that came with the item counts as much as so many clicks beside another item


def evidence_vector(weights: np.ndarray, vectors: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    """The direction of the weighted mean of an item's neighbors.

    Parameters
    ----------
    weights : float64[P]
        How much each neighbor says: the sum of 1/distance over both directions. Negative ones count as 0.
    vectors : float32[P, d]
        Theirs: rows of length 1, or 0 where an item has no vector yet.
    given : float32[d], optional
        A direction that came with the item.

    Returns
    -------
    float32[d]
        Of length 1; zero where nothing is known.
    """
    total = np.zeros(vectors.shape[1], dtype=np.float64)
    if given is not None:
        total += GIVEN_WEIGHT * _direction(given.astype(np.float64))
    total += np.maximum(weights, 0) @ vectors.astype(np.float64)
    return _direction(total).astype(np.float32)


def _direction(vector: np.ndarray) -> np.ndarray:
    length = float(np.sqrt(vector @ vector))
    return vector / length if length > 0 else vector
