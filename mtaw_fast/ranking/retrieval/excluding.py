"""Searches in which each query has items of its own that it must not find."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.data.ranked_lists import padded_lists, padded_to
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.retrieval import Index


def search_excluding(
    index: Index,
    catalog: Catalog,
    allowed: Filter | None,
    queries: np.ndarray,
    k: int,
    excluded: np.ndarray | None,
    offsets: np.ndarray | None,
    scale: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the index's top k of queries float32[B, d] without each query's own excluded items, padded.

    excluded: int32[..], the ids of all queries end to end, bounded by offsets int64[B + 1]; None: no query has any.
    scale: the catalog's, unless given. The first k + n of an exact ranking contain the first k that remain after any n
    are dropped.
    """
    scale, n_items = scale or catalog.scale, max(1, catalog.n_items)
    if excluded is None or offsets is None:
        return padded_to(k, *index.search(queries, min(k, n_items), allowed, scale=scale))
    dropped = [np.unique(excluded[begin:end]) for begin, end in pairwise(offsets.tolist())]
    ids, scores = padded_lists(len(queries), k)
    # Rounded up to powers of two, so that one long list does not widen the search of every query.
    extra = np.array([1 << (len(ids) - 1).bit_length() if len(ids) else 0 for ids in dropped])
    for width in np.unique(extra):
        rows = np.flatnonzero(extra == width)
        items, values = index.search(queries[rows], min(k + int(width), n_items), allowed, scale=scale)
        for row, row_ids, row_values in zip(rows, items, values, strict=True):
            positions = np.flatnonzero(np.isin(row_ids, dropped[row], invert=True))[:k]
            ids[row, : len(positions)] = row_ids[positions]
            scores[row, : len(positions)] = row_values[positions]
    return ids, scores
