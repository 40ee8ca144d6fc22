"""Merge the top K of every range of a catalog into the top K of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mtaw_fast.data.ranked_lists import padded_lists

_LAST = np.iinfo(np.int64).max

Found = tuple[np.ndarray, np.ndarray]  # ids int32[B, k] and scores float32[B, k], as `Index.search` returns them


def merged(parts: Sequence[tuple[int, Found]], n_queries: int, k: int) -> Found:
    """Return the k best of B queries over all parts, in ids of the whole, as one index over all items would.

    An item's score depends only on its vector and the query, so the k best of the whole are among the k best of the
    parts. They are ordered by score, ties by the lower id.

    parts: for each part that answered, in any order, the whole's id of its first item, and its results for the B
    queries in its own ids, padded with -1 / -inf: int32[B, K] and float32[B, K], where K may differ between parts.
    """
    ids, scores = padded_lists(n_queries, k)
    if not parts:
        return ids, scores
    whole_ids = np.concatenate(
        [np.where(part_ids < 0, _LAST, part_ids.astype(np.int64) + begin) for begin, (part_ids, _) in parts], 1
    )
    values = np.concatenate([values for _, (_, values) in parts], 1)
    # By score, then id; padding has the last id of all, and so comes after an item whose score is -inf.
    order = np.lexsort((whole_ids, -values), axis=1)[:, :k]
    whole_ids, values = np.take_along_axis(whole_ids, order, 1), np.take_along_axis(values, order, 1)
    width = order.shape[1]
    ids[:, :width] = np.where(whole_ids == _LAST, -1, whole_ids)
    scores[:, :width] = values
    return ids, scores


def ranges(sizes: Sequence[int]) -> list[range]:
    """Return the item range of each part in the whole, from the parts' sizes."""
    ends = np.cumsum([0, *sizes]).tolist()
    return [range(begin, end) for begin, end in pairwise(ends)]
