"""Item vectors from a factorization of co-occurrence, as initial weights.

PPMI of item pairs clicked near each other, factorized by a truncated SVD: M ~ U S U^T, E = U sqrt(S)
(Levy and Goldberg, Neural Word Embedding as Implicit Matrix Factorization, NIPS 2014).
Axes: N items, d, P pairs.
"""

from __future__ import annotations

import logging
import warnings

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.data.ranked_lists import merge
from mtaw_fast.data.sessions import Sessions

WINDOW = 8  # clicks apart, at most
MAX_PAIRS = 40_000_000  # of neighboring clicks: some 5 GB; of more, sessions spread evenly are read
_CONTEXT_SMOOTHING = 0.75  # Levy, Goldberg and Dagan (TACL 2015): damps the PMI of rare contexts
_OVERSAMPLING = 12
_POWER_ITERATIONS = 3


def spectral_embedding(sessions: Sessions, n_items: int, d: int, norm: float, seed: int) -> Tensor:
    """float32[N, d]: vectors of length `norm`; zero for an item that is never next to another.

    The same seed gives the same bits on one machine. d is at most N - 1 in effect: further columns are 0.
    """
    matrix = _ppmi(_within(sessions, MAX_PAIRS), n_items)
    rank = min(d + _OVERSAMPLING, n_items)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        u, s, _ = torch.svd_lowrank(matrix, q=rank, niter=_POWER_ITERATIONS)
    vectors = torch.zeros(n_items, d)
    width = min(d, rank)
    vectors[:, :width] = u[:, :width] * s[:width].sqrt()
    lengths = vectors.norm(dim=1, keepdim=True)
    # Rows of items without pairs have rounding noise, which must not be scaled up to a direction.
    has_pairs = (matrix.crow_indices().diff() > 0)[:, None] & (lengths > 0)
    return torch.where(has_pairs, vectors / lengths.clamp_min(1e-30) * norm, 0.0)


def count_pairs(sessions: Sessions) -> int:
    """Return how many pairs of clicks are at most `WINDOW` apart."""
    near = np.minimum(sessions.lengths - 1, WINDOW)
    return int((near * sessions.lengths - near * (near + 1) // 2).sum())


def reads_some(sessions: Sessions) -> bool:
    """Whether `spectral_embedding` reads only some of the sessions, so that items of the others have no vector."""
    return count_pairs(sessions) > MAX_PAIRS


def _within(sessions: Sessions, max_pairs: int) -> Sessions:
    """Return the sessions, or if they have more than `max_pairs` pairs, an evenly spread part with about so many."""
    pairs = count_pairs(sessions)
    if pairs <= max_pairs:
        return sessions
    n_chosen = np.arange(len(sessions) + 1) * (max_pairs / pairs)
    chosen = np.flatnonzero(np.diff(n_chosen.astype(np.int64)))
    logging.getLogger("mtaw_fast").warning(
        f"structured start: reads {len(chosen):,} of {len(sessions):,} sessions, evenly spread, since all have "
        f"{pairs:,} pairs of clicks, more than {max_pairs:,}; items in none of them start with a random vector"
    )
    return sessions.select(chosen)


def _ppmi(sessions: Sessions, n_items: int) -> Tensor:
    """Sparse float32[N, N], symmetric in its counts: max(0, log(C_ij C / (C_i. C_.j^a / sum C^a)))."""
    first, second, weight = _pairs(sessions, n_items)
    total = np.bincount(first, weight, minlength=n_items)
    smoothed = total**_CONTEXT_SMOOTHING
    context = smoothed / max(smoothed.sum(), 1.0)
    pmi = np.log(weight / (total[first] * context[second]))
    positive = pmi > 0
    rows = np.concatenate([[0], np.cumsum(np.bincount(first[positive], minlength=n_items))])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)  # "CSR support is in beta"
        return torch.sparse_csr_tensor(
            torch.from_numpy(rows.astype(np.int64)),
            torch.from_numpy(second[positive].astype(np.int64)),
            torch.from_numpy(pmi[positive].astype(np.float32)),
            size=(n_items, n_items),
            check_invariants=True,
        )


def _pairs(sessions: Sessions, n_items: int) -> tuple[np.ndarray, ...]:
    """Unordered neighbors, each pair both ways: (first int64[P], second int32[P], sum of 1/distance)."""
    session = np.repeat(np.arange(len(sessions)), sessions.lengths)
    items = sessions.items.astype(np.int64)
    firsts, seconds, weights = [], [], []
    for distance in range(1, min(WINDOW, len(items) - 1) + 1):
        before, after = items[:-distance], items[distance:]
        is_pair = (session[:-distance] == session[distance:]) & (before != after)
        firsts += [before[is_pair], after[is_pair]]
        seconds += [after[is_pair], before[is_pair]]
        weights.append(np.full(2 * np.count_nonzero(is_pair), 1 / distance))
    if not firsts:
        return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0)
    return merge(np.concatenate(firsts), np.concatenate(seconds), np.concatenate(weights), n_items)
