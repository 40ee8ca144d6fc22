"""Query the session memory for candidates, features and rankings, without the GIL.

    features_of_list = feature_names()
    memory = SessionMemory(tables, recency, n_catalog)
    ids, features = memory.features(items, begins, ends, threads=2)     # for training
    ids, scores = memory.rank(ranker, items, begins, ends, k)           # for serving

Axes: Q prefixes of packed sessions, at most C candidates of each, F features, N items, d, D dense items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.kernels.native import _native
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_tables import NO_SESSION
from mtaw_fast.kernels.native.trends import ItemContent, Trends

__all__ = [
    "MAX_TYPES",
    "NO_TYPE",
    "Dense",
    "Moment",
    "NativeRankerNet",
    "QuerySettings",
    "SessionMemory",
    "feature_names",
]

# As in memory/own_items.hpp.
MAX_TYPES = 8  # of clicks that a ranker reads
NO_TYPE = 255  # code of any other type


@dataclass(frozen=True, slots=True)
class QuerySettings:
    """How many candidates a query takes.

    own: of the session's latest distinct items, at most 64. others: of the items that occur in past sessions together
    with them. dense: of the dense list. trends: by decayed sums, plus 50 popular
    ones, if a call gives a moment; 0 for none. ranked: candidates apart from own items that get features and a score in
    a ranking at a moment: the best by a sum of what is known of all (`quick_score` in `memory/features.hpp`), and those
    of a call's `always_ranked`; 0 for all. `features` returns all.
    """

    own: int = 60
    others: int = 80
    dense: int = 50
    trends: int = 0
    ranked: int = 0


def feature_names(trends: bool = False) -> tuple[str, ...]:
    """Return the F features' names in their order; `memory/features.hpp` has the formulas.

    trends: followed by the trends' features (`trends/features.hpp`).
    """
    return _native.memory_feature_names(trends)


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """The time of a query of Q prefixes.

    trends: for at least as many items as the memory's n_catalog. now: int64[Q], the moments of the requests, ms since
    1970. times: int64[T], of the clicks, -1 where unknown; None: of no click. context: uint16[Q, columns of the
    trends], codes of the visits; None: none is known. content: adds features of the items' content.
    """

    trends: Trends
    now: np.ndarray
    times: np.ndarray | None = None
    context: np.ndarray | None = None
    content: ItemContent | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """The neural part of a query of Q prefixes.

    queries: float32[Q, d]. ids: int32[Q, D], the best items by each query, padded with -1; logits: float32[Q, D],
    theirs. catalog: float32[N, d], the rows of the items, and scale: a logit is float32(scale * dot), as everywhere.
    added: float32[M, d], the rows of the ids N..N+M-1.
    """

    queries: np.ndarray
    ids: np.ndarray
    logits: np.ndarray
    catalog: np.ndarray
    scale: float
    added: np.ndarray | None = None


class NativeRankerNet:
    """The native form of a ranker's arrays: float32 mean, scale, linear [F], w1 [F, n1], b1 [n1], w2 [n1, n2], b2, w3
    [n2], bias [1]; n1 and n2 multiples of 8 up to 256. n_types: how many types of clicks its last features are of.
    Raises ValueError on arrays that do not fit.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], n_types: int = 0) -> None:
        self.native = _native.MemoryRanker(dict(arrays), n_types)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return float32[n]: the scores of candidates by their features float32[n, F], as a ranking gives them."""
        scores: np.ndarray = self.native.scores(np.ascontiguousarray(features))
        return scores


class SessionMemory:
    """Queries over the tables of past sessions, which are kept by reference; thread-safe.

    tables: the arrays of `mtaw_fast.memory.MemoryTables` by name, checked by it. recency: its settings' number of
    sessions. n_catalog: ids of clicks and dense items are in 0..n_catalog-1; items after those of the tables have no
    past. settings: how many candidates a query takes. isa: the instruction set, by default the process's own; all give
    the same bits. delta: made from these tables, for at most n_catalog items; queries read both together.
    once_from: the index of the first session that counts a pair once, as the delta has it.

    Raises ValueError on arrays that do not fit together or a setting out of range.
    """

    def __init__(
        self,
        tables: Mapping[str, np.ndarray],
        recency: float,
        n_catalog: int,
        settings: QuerySettings | None = None,
        *,
        isa: str | None = None,
        delta: MemoryDelta | None = None,
        once_from: int | None = None,
    ) -> None:
        limits, native = settings or QuerySettings(), None if delta is None else delta.native
        self.native = _native.SessionMemory(
            dict(tables), recency, n_catalog, limits.own, limits.others, limits.dense, isa, native,
            limits.trends, NO_SESSION if once_from is None else once_from, limits.ranked,
        )  # fmt: skip
        self.dense = limits.dense

    def features(
        self,
        items: np.ndarray,
        begins: np.ndarray,
        ends: np.ndarray,
        dense: Dense | None = None,
        threads: int = 1,
        moment: Moment | None = None,
        types: np.ndarray | None = None,
        n_types: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the candidates of Q prefixes and their features: (ids int32[Q, C] padded with -1, float32[Q, C, F]).

        items: int32[T] clicks; prefix q is items[begins[q]:ends[q]] (int64[Q]), not empty; its last 512 clicks count.
        A row of features depends only on its prefix and the tables, to the bit. Padding is 0. moment: adds candidates
        and the features of trends. types: uint8[T], of the clicks, codes from n_types on where unknown; None: of no
        click. n_types: adds the features of so many types, at most `MAX_TYPES`.

        Raises ValueError on a wrong type or shape, IndexError on an id outside the catalog.
        """
        return self.native.features(
            items, begins, ends, **_arguments(dense), threads=threads, **_when(moment), types=types, n_types=n_types
        )

    def rank(
        self,
        ranker: NativeRankerNet,
        items: np.ndarray,
        begins: np.ndarray,
        ends: np.ndarray,
        k: int,
        dense: Dense | None = None,
        *,
        allowed: np.ndarray | None = None,
        excluded: np.ndarray | None = None,
        excluded_offsets: np.ndarray | None = None,
        threads: int = 1,
        moment: Moment | None = None,
        types: np.ndarray | None = None,
        always_ranked: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best items of each prefix: (ids int32[Q, k], scores float32[Q, k]), padded with -1 / -inf.

        The candidates by the ranker's score, ties by the lower id, then the rest of `dense` in its order, with
        scores that continue from the lowest candidate's. allowed, excluded, excluded_offsets: as `Scanner.search`; the
        dense list must satisfy them too. moment: if the ranker has features of trends. always_ranked: bits of items
        that get the ranker's score if they are candidates, whatever their quick score. All else as `features`.
        """
        added = None if dense is None else dense.added
        return self.native.rank(
            ranker.native, items, begins, ends, k, **_arguments(dense), added=added,
            allowed=allowed, excluded=excluded, excluded_offsets=excluded_offsets, threads=threads,
            **_when(moment), types=types, always_ranked=always_ranked,
        )  # fmt: skip


def _arguments(dense: Dense | None) -> dict[str, Any]:
    """Return the encoder's part of a query as arguments of the native calls."""
    if dense is None:
        return {}
    return {"queries": dense.queries, "dense": dense.ids, "logits": dense.logits, "catalog": dense.catalog,
            "scale": dense.scale}  # fmt: skip


def _when(moment: Moment | None) -> dict[str, Any]:
    """Return the moment as arguments of the native calls."""
    if moment is None:
        return {}
    content = None if moment.content is None else moment.content.native
    return {"trends": moment.trends.native, "now": moment.now, "times": moment.times, "context": moment.context,
            "content": content}  # fmt: skip
