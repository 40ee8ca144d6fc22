"""The numpy index: one matrix product over the catalog, then the exact rerank."""

from __future__ import annotations

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.kernels.native import rerank_topk
from mtaw_fast.ranking.retrieval.certificate import checked_norms, largest_norm, margins

_CHUNK_SCORES = 1 << 24  # scores in memory at once: 64 MB of float32
_GROUP_SIZE = 16  # items; see `complete_candidates`
_COPIED_SHARE = 1 / 8  # a filter that allows at most this share of the catalog scans a copy of its rows


class NumpyIndex:
    """`Index` by a float32 matrix product (numpy's BLAS). Memory: 64 MB of scores, or one row of N.

    catalog: float32[N, d], kept without a copy (processes share a memory map).
    """

    name = "numpy"

    def __init__(self, catalog: np.ndarray) -> None:
        self._catalog = catalog
        self.norm = largest_norm(catalog)

    def search(
        self, queries: np.ndarray, k: int, allowed: Filter | None = None, *, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`."""
        n_items, d = self._catalog.shape
        norms = checked_norms(queries, d, k, allowed, n_items)
        margin = margins(d, norms, self.norm, scale)
        ids = np.empty((len(queries), k), dtype=np.int32)
        scores = np.empty((len(queries), k), dtype=np.float32)
        rows, row_ids, banned = self._catalog, None, None
        if allowed is not None and allowed.count <= _COPIED_SHARE * n_items:
            row_ids = allowed.ids
            rows = self._catalog[row_ids]
        elif allowed is not None:
            banned = allowed.banned
        step = max(1, _CHUNK_SCORES // max(len(rows), 1))
        for begin in range(0, len(queries), step):
            chunk = slice(begin, begin + step)
            block = queries[chunk]
            dots = rows @ block[0][:, None] if len(block) == 1 else block @ rows.T
            dots = dots.reshape(len(block), len(rows))
            if banned is not None:
                np.copyto(dots, -np.inf, where=banned)
            row_candidates = [complete_candidates(dots[b], k, margin[begin + b]) for b in range(len(block))]
            candidates = padded(row_candidates)
            if row_ids is not None:
                candidates = (
                    np.where(candidates >= 0, row_ids[candidates], np.int32(-1)) if len(row_ids) else candidates
                )
            ids[chunk], scores[chunk] = rerank_topk(np.ascontiguousarray(block), self._catalog, candidates, k, scale)
        return ids, scores


def complete_candidates(dots: np.ndarray, k: int, margin: float) -> np.ndarray:
    """Return int32[C]: at least the rows whose dots float32[N] are within `margin` of the k-th largest, no -inf.

    Few others are among them: the threshold may be a lower bound of the k-th largest dot. The k-th largest of group
    maxima is one, as k different dots reach it, and takes a sixteenth of the work.
    """
    n_groups = len(dots) // _GROUP_SIZE
    bound = -np.inf
    if n_groups >= 4 * k:
        maxima = np.maximum.reduce(dots[: n_groups * _GROUP_SIZE].reshape(_GROUP_SIZE, n_groups), axis=0)
        bound = float(np.partition(maxima, n_groups - k)[n_groups - k])
    if bound == -np.inf and len(dots) > k:
        bound = float(np.partition(dots, len(dots) - k)[len(dots) - k])
    if bound == -np.inf:
        return np.flatnonzero(dots > -np.inf).astype(np.int32)
    rows = np.flatnonzero(dots >= np.float32(bound - margin))
    if len(rows) > 4 * k:
        near = dots[rows]
        bound = float(np.partition(near, len(near) - k)[len(near) - k])
        rows = rows[near >= np.float32(bound - margin)]
    return rows.astype(np.int32)


def padded(lists: list[np.ndarray]) -> np.ndarray:
    """Return int32[B, C]: the id lists as rows, padded with -1."""
    if len(lists) == 1:
        return lists[0].reshape(1, -1)
    rows = np.full((len(lists), max(map(len, lists), default=0)), -1, dtype=np.int32)
    for row, ids in zip(rows, lists, strict=True):
        row[: len(ids)] = ids
    return rows
