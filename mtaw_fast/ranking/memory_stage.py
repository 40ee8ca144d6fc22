"""The session memory over a served catalog: it ranks the candidates of an encoder and an index by past sessions."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.kernels.native.memory_query import Dense, Moment, NativeRankerNet, SessionMemory
from mtaw_fast.kernels.native.trends import ItemContent, Trends
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.item_content import item_content
from mtaw_fast.ranking.options import Conditions


def memory_parts(catalog: Catalog, capacity: int = 0) -> tuple[SessionMemory, NativeRankerNet] | None:
    """Return the memory that ranks a catalog, and its ranker; None if the model has no memory.

    capacity: number of items that a new memory is made for, at least. A memory of the catalog's own is used as it is.
    """
    model = catalog.model
    if model.memory is None or model.ranker_net is None:
        return None
    memory = catalog.memory
    if memory is None:
        memory = model.memory.queries(
            max(capacity, catalog.size), query_settings(model.config, model.trends is not None)
        )
    return memory, model.ranker_net.native()


def content_of(catalog: Catalog) -> ItemContent | None:
    """Return the content of a catalog's items that its ranker reads; None if it reads none."""
    net = catalog.model.ranker_net
    return None if net is None or catalog.trends is None else item_content(net.side, catalog.items)


def moment_of(
    trends: Trends,
    sessions: Sessions,
    ends: np.ndarray,
    at: int | None = None,
    context: np.ndarray | None = None,
    content: ItemContent | None = None,
) -> Moment:
    """Return the times and contexts of Q requests, each after the prefix that ends before click `ends[q]`.

    If the sessions have times, a request comes right after its last click. Without times it comes at `at`, or after the
    newest click that `trends` knows, which is also the earliest possible time. The context of a visit is that of its
    last click if the sessions have one, else `context` uint16[C]. ends: int64[Q]. content: for a ranker with features
    of it.
    """
    codes = None
    if trends.n_context and sessions.context is not None:
        codes = np.ascontiguousarray(sessions.context[ends - 1])
    elif trends.n_context and context is not None:
        codes = np.tile(context, (len(ends), 1))
    if sessions.times is None:
        return Moment(trends, np.full(len(ends), at or 0, dtype=np.int64), None, codes, content)
    times = np.ascontiguousarray(sessions.times)
    return Moment(trends, times[ends - 1], times, codes, content)


class MemoryStage:
    """The bundle's memory and ranker over one state of the catalog. Thread-safe.

    Added items have no past sessions: only the dense list or the session itself finds them. Removed items are not
    found.
    """

    def __init__(self, catalog: Catalog, memory: SessionMemory, ranker_net: NativeRankerNet) -> None:
        self.memory, self.ranker_net = memory, ranker_net
        self._catalog = catalog
        self._trends = catalog.trends
        self._content = content_of(catalog)
        self._available = Filter(~catalog.unavailable) if catalog.unavailable.any() else None
        # A prepared filter is used many times; it is combined once with this state.
        self._prepared: weakref.WeakKeyDictionary[Filter, Filter] = weakref.WeakKeyDictionary()

    @classmethod
    def of(cls, catalog: Catalog) -> MemoryStage | None:
        """Return the stage of a catalog; None if the model has no memory."""
        parts = memory_parts(catalog)
        return None if parts is None else cls(catalog, *parts)

    def width(self, k: int) -> int:
        """Return how many items the index must find for a ranking of k."""
        return max(k, min(self.memory.dense, self._catalog.n_items))

    def rank(
        self,
        sessions: Sessions,
        k: int,
        queries: np.ndarray,
        retrieved: tuple[np.ndarray, np.ndarray],
        conditions: Conditions,
        dropped: Sequence[np.ndarray] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best items of B sessions, none empty: (ids int32[B, k], scores float32[B, k]), padded.

        sessions: types are codes of those that the ranker reads. queries: float32[B, d]. retrieved: the best
        `width(k)` items of each and their logits. dropped: ids that are not ranked, for each session, in place of those
        that the conditions exclude.
        """
        catalog = self._catalog
        ids, logits = (np.ascontiguousarray(array) for array in retrieved)
        added = catalog.vectors if catalog.added else None
        dense = Dense(np.ascontiguousarray(queries), ids, logits, catalog.model.item_vectors, catalog.scale, added)
        bits, excluded, offsets = self._bits(conditions.allowed), None, None
        if dropped is not None:
            offsets = offsets_of(np.array([len(row) for row in dropped], dtype=np.int64))
            excluded = np.concatenate([np.empty(0, np.int32), *dropped], dtype=np.int32)
        items, bounds = np.ascontiguousarray(sessions.items), np.ascontiguousarray(sessions.offsets)
        begins, ends = bounds[:-1], bounds[1:]
        moment = None
        if self._trends is not None:
            moment = moment_of(self._trends, sessions, ends, conditions.at, conditions.context, self._content)
        return self.memory.rank(
            self.ranker_net, items, begins, ends, k, dense, allowed=bits, excluded=excluded, excluded_offsets=offsets,
            moment=moment, types=None if sessions.types is None else np.ascontiguousarray(sessions.types),
            always_ranked=conditions.always_ranked,
        )  # fmt: skip

    def _bits(self, allowed: Filter | None) -> np.ndarray | None:
        """Return the items of this state that `allowed` keeps, as bits; None if that is all."""
        if allowed is None or self._available is None:
            combined = self._available if allowed is None else allowed
        else:
            combined = self._prepared.get(allowed)
            if combined is None:
                combined = self._prepared[allowed] = allowed & self._available
        return None if combined is None else combined.packed
