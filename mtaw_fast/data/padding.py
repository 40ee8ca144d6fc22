"""Lists of ranked items that are shorter than k: the places left over hold id -1 and score -inf."""

from __future__ import annotations

import numpy as np


def padded_lists(n_rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists that hold padding alone: (ids int32[n_rows, k], scores float32[n_rows, k])."""
    return np.full((n_rows, k), -1, dtype=np.int32), np.full((n_rows, k), -np.inf, dtype=np.float32)


def padded_to(k: int, ids: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lists (the last axis) cut or padded to k places, in their own types."""
    spare = [(0, 0)] * (ids.ndim - 1) + [(0, max(0, k - ids.shape[-1]))]
    return (
        np.pad(ids[..., :k], spare, constant_values=-1),
        np.pad(scores[..., :k], spare, constant_values=-np.inf),
    )
