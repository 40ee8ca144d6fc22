"""Paired differences of two rankings of the same samples, with bootstrap intervals over sessions."""

from __future__ import annotations

import numpy as np

_RESAMPLES = 1000


def gains_of(ranks: np.ndarray) -> np.ndarray:
    """Return hit and reciprocal rank in percent, float64[S, 2]. ranks: int[S], 0 for a miss."""
    hit = ranks > 0
    return np.stack([100.0 * hit, np.where(hit, 100 / np.maximum(ranks, 1), 0)], axis=1)


def difference_of(values: np.ndarray, session: np.ndarray) -> dict[str, list[float]]:
    """Return mean, low and high of each metric's differences, float64[S, 2], resampled by session (int[S])."""
    _, owner = np.unique(session, return_inverse=True)
    counts = np.bincount(owner)
    sums = np.stack([np.bincount(owner, values[:, k]) for k in range(2)], axis=1)
    draws = np.random.default_rng(0).integers(0, len(counts), (_RESAMPLES, len(counts)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)[:, None]
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    ends = np.stack([values.mean(axis=0), low, high], axis=1).round(2)
    return {name: ends[k].tolist() for k, name in enumerate(("P@20", "MRR@20"))}
