"""Ranks, P@K, MRR@K and their intervals: numbers in, numbers out.

Axes: S samples, B rows of a batch, N items, L listed items, G sessions. All metrics are in percent.

Ranks are **pessimistic**: 1-based, the target comes last among equal scores, and a NaN ranks before the target. So a
model that gives everything the same score, or NaN, gets no credit.
"""

from __future__ import annotations

import numpy as np

KS = (10, 20)
METRICS = tuple(f"{name}@{k}" for k in KS for name in ("P", "MRR"))
_BOOTSTRAP_CELLS = 1 << 22


def pessimistic_rank(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the rank of each target in a dense score row: int32[B], 1 is best, 0 if the target's score is NaN.

    scores: float[B, N]; targets: int[B]. Items that tie with the target and NaN items come before it.
    """
    target_scores = scores[np.arange(len(scores)), targets][:, None]
    # Not `>=`: the negated `<` is also true for NaN, and counts the target itself once.
    ranks = np.count_nonzero(~(scores < target_scores), axis=1)
    return np.where(np.isnan(target_scores[:, 0]), 0, ranks).astype(np.int32)


def listed_rank(ids: np.ndarray, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the rank of each target in a list of items: int32[B], 1 is best, 0 if it is absent or its score is NaN.

    ids: int[B, L], L >= 1, negative entries are padding; scores: float[B, L]; targets: int[B]. The rank follows the
    scores, not the positions: equal scores and NaNs of other items come before the target.
    """
    hits = ids == targets[:, None]
    is_listed = hits.any(axis=1)
    target_scores = np.where(is_listed, scores[np.arange(len(ids)), hits.argmax(axis=1)], np.nan)[:, None]
    ranks = np.count_nonzero(~(scores < target_scores) & (ids >= 0), axis=1)
    return np.where(np.isnan(target_scores[:, 0]), 0, ranks).astype(np.int32)


def gains_of(ranks: np.ndarray) -> np.ndarray:
    """Return what each sample adds to each of METRICS: float64[S, 4], in percent; the mean is the metric.

    P@K: 100 where 1 <= rank <= K. MRR@K: 100 / rank there. Both are 0 elsewhere.
    """
    reciprocal = np.where(ranks > 0, 100.0 / np.maximum(ranks, 1), 0.0)
    columns = []
    for k in KS:
        hits = (ranks > 0) & (ranks <= k)
        columns += [np.where(hits, 100.0, 0.0), np.where(hits, reciprocal, 0.0)]
    return np.stack(columns, axis=1)


def means_of(gains: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    """Return the metrics of gains float64[S, 4] in percent by name; NaN without a sample of positive weight.

    weights: float[S], as if each sample were repeated so often; None for 1 each.
    """
    if weights is not None:
        mass = float(weights.sum(dtype=np.float64))
        if mass == 0:
            return dict.fromkeys(METRICS, float("nan"))
        return dict(zip(METRICS, (weights.astype(np.float64) @ gains / mass).tolist(), strict=True))
    if len(gains) == 0:
        return dict.fromkeys(METRICS, float("nan"))
    return dict(zip(METRICS, gains.mean(axis=0).tolist(), strict=True))


def session_bootstrap(
    gains: np.ndarray,
    session: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    weights: np.ndarray | None = None,
) -> dict[str, tuple[float, float]]:
    """Return percentile intervals of the metrics, resampling whole sessions: (low, high) in percent by name.

    gains: float64[S, 4]; session: int[S], equal for samples of one session. Samples of a session share clicks, so
    resampling single samples would give far too narrow intervals. Every resample draws G sessions with replacement and
    takes the mean over their samples. With one session the interval has no width. Equal arguments give equal
    intervals. weights: float[S], as in `means_of`, at least one above 0.
    """
    counts = np.ones(len(gains)) if weights is None else weights.astype(np.float64)
    if weights is not None:
        gains, session, counts = gains[counts > 0] * counts[counts > 0, None], session[counts > 0], counts[counts > 0]
    _, group = np.unique(session, return_inverse=True)
    n_sessions = int(group.max()) + 1
    # One row a session: the sums of its gains and its number of samples.
    sums = np.stack([np.bincount(group, column) for column in (*gains.T, counts)], axis=1)
    generator = np.random.default_rng(seed)
    means = []
    step = max(_BOOTSTRAP_CELLS // n_sessions, 1)
    for begin in range(0, resamples, step):
        rows = min(step, resamples - begin)
        drawn = generator.integers(n_sessions, size=(rows, n_sessions))
        drawn += np.arange(rows)[:, None] * n_sessions
        times = np.bincount(drawn.ravel(), minlength=rows * n_sessions).reshape(rows, n_sessions)
        totals = times @ sums
        means.append(totals[:, :-1] / totals[:, -1:])
    tail = 50 * (1 - level)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail], axis=0)
    return {name: (float(lower), float(upper)) for name, lower, upper in zip(METRICS, low, high, strict=True)}
