"""An index whose catalog has changed since it was built: a segment of added items, and a filter of removed ones."""

from __future__ import annotations

import copy
import weakref

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.ranking.retrieval import Index, for_items
from mtaw_fast.ranking.retrieval.numpy_index import NumpyIndex
from mtaw_fast.system.cached_property import cached_property


class SegmentedIndex:
    """`Index` over N + M items: `base` over the first N, an exact search of the added rows float32[M, d].

    It is exact if `base` is. A search costs that of `base`, a filter if an item of `base` is unavailable, and a matrix
    product over the M added rows.

    n_base: N. unavailable: bool[N + M], items that are never found.
    """

    def __init__(self, base: Index, n_base: int, added: np.ndarray, unavailable: np.ndarray) -> None:
        self.name = base.name
        self._base, self._n_base, self._added = base, n_base, added
        self._available = ~unavailable
        # A prepared filter is used many times; it is split once for this state.
        self._prepared: weakref.WeakKeyDictionary[Filter, tuple[Filter | None, Filter | None]] = (
            weakref.WeakKeyDictionary()
        )

    # Made on first use: if sessions are ranked in one native call, they are never needed.
    @cached_property
    def _segment(self) -> NumpyIndex | None:
        return NumpyIndex(self._added) if len(self._added) else None

    @cached_property
    def _everything(self) -> tuple[Filter | None, Filter | None]:
        return self._parts(None)

    def search(
        self, queries: np.ndarray, k: int, allowed: Filter | None = None, *, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`."""
        in_base, in_segment = self._split(allowed)
        ids, scores = self._base.search(queries, k, in_base, scale=scale)
        if self._segment is None:
            return ids, scores
        added_ids, added_scores = self._segment.search(queries, k, in_segment, scale=scale)
        added_ids = np.where(added_ids >= 0, added_ids + np.int32(self._n_base), np.int32(-1))
        ids = np.concatenate([ids, added_ids], axis=1)
        scores = np.concatenate([scores, added_scores], axis=1)
        # Stable: of equal scores base's come first, and those are the lower ids.
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)

    def for_items(self) -> SegmentedIndex:
        """Return the same index with base's form for item vectors; see `retrieval.for_items`."""
        base = for_items(self._base)
        if base is self._base:
            return self
        index = copy.copy(self)  # shares the segment and the split filters
        index._base = base
        return index

    def _split(self, allowed: Filter | None) -> tuple[Filter | None, Filter | None]:
        if allowed is None:
            return self._everything
        allowed.check(len(self._available))
        parts = self._prepared.get(allowed)
        if parts is None:
            parts = self._prepared[allowed] = self._parts(allowed.mask)
        return parts

    def _parts(self, mask: np.ndarray | None) -> tuple[Filter | None, Filter | None]:
        """Return the filters of base and of the added segment; None if all of it is allowed."""
        present = self._available if mask is None else self._available & mask
        parts = present[: self._n_base], present[self._n_base :]
        return tuple(None if part.all() else Filter(part) for part in parts)  # type: ignore[return-value]
