"""Lists of ranked items: padded lists of k items, and the top-K of ragged candidate lists.

Candidates are parallel arrays: rows int64[C], items int[C], scores float[C]. A row's result does not depend on the
other rows of the batch: sums run in the order of the row's entries, and ties go to the lower item id. A list that is
shorter than k is padded with id -1 and score -inf.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.data.sessions import offsets_of, ranges


def padded_lists(n_rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return lists of padding only: (ids int32[n_rows, k], scores float32[n_rows, k])."""
    return np.full((n_rows, k), -1, dtype=np.int32), np.full((n_rows, k), -np.inf, dtype=np.float32)


def padded_to(k: int, ids: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut or pad the lists (the last axis) to k entries; dtypes stay."""
    padding = [(0, 0)] * (ids.ndim - 1) + [(0, max(0, k - ids.shape[-1]))]
    return (
        np.pad(ids[..., :k], padding, constant_values=-1),
        np.pad(scores[..., :k], padding, constant_values=-np.inf),
    )


def merge(
    rows: np.ndarray, items: np.ndarray, scores: np.ndarray, n_items: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add up the scores of equal (row, item): (rows, items, scores float64), ordered by row, then item."""
    keys = rows * np.int64(n_items) + items
    # Stable, so that the float sums do not depend on how the sort permutes equal keys.
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    is_first = np.ones(len(keys), dtype=bool)
    is_first[1:] = keys[1:] != keys[:-1]
    # bincount adds one after the other in float64; reduceat would round by segment length.
    totals = np.bincount(np.cumsum(is_first) - 1, scores[order])
    distinct = keys[is_first]
    return distinct // n_items, (distinct % n_items).astype(np.int32), totals


def top_k(
    rows: np.ndarray, items: np.ndarray, scores: np.ndarray, n_rows: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of every row: (ids int32[n_rows, k], scores float32[n_rows, k]), best first.

    The candidates come ordered by row, then item, each item once a row (as `merge` gives them).
    Scores are rounded to float32 before they are compared; ties go to the lower id; rows with fewer
    than k candidates are padded with -1 and -inf.
    """
    rounded = scores.astype(np.float32)
    order = np.argsort((rows << 32) - _order_bits(rounded), kind="stable")
    counts = np.bincount(rows, minlength=n_rows)
    lengths = np.minimum(counts, k)
    chosen = order[ranges(offsets_of(counts)[:-1], lengths)]
    indices = ranges(np.arange(n_rows) * k, lengths)
    ids, best_scores = padded_lists(n_rows, k)
    ids.ravel()[indices] = items[chosen]
    best_scores.ravel()[indices] = rounded[chosen]
    return ids, best_scores


def _order_bits(values: np.ndarray) -> np.ndarray:
    """int64[C] in (-2^31, 2^31) that compare as the float32 `values` do (no NaN)."""
    bits = (values + np.float32(0)).view(np.int32)  # + 0 turns -0 into 0
    return np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
