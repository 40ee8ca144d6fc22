"""From sessions of internal ids to ranked items: encode, retrieve, leave out what may not be shown, remember.

Two forms of the same answer, to the bit: `ComposedRanker` of any encoder and any index, and `NativeRanker`, which
does it all in one native call where both are native.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Any, Protocol

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.engine import Engine
from mtaw_fast.memory.pairs import neighbours
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.conditions import Conditions
from mtaw_fast.ranking.encoders import Encoder, NativeEncoder
from mtaw_fast.ranking.memory_stage import Remembering
from mtaw_fast.ranking.reasons import reasons_of
from mtaw_fast.ranking.retrieval import Index, ScanIndex
from mtaw_fast.ranking.retrieval.enlarged import EnlargedIndex

_NOTHING = np.empty(0, dtype=np.int32)


class Ranker(Protocol):
    """Axes: B sessions. Thread-safe."""

    def rank(
        self, sessions: Sessions, k: int, conditions: Conditions, stages: dict[str, float] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32[B, k], scores float32[B, k]) of sessions of internal ids, none of them empty.

        Best first, padded with -1 / -inf. `stages` gains the microseconds of 'encode', 'retrieve' and, where there is
        one, 'memory'.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """One state of what is served: the catalog, its index, and the ranker over both."""

    catalog: Catalog
    index: Index
    ranker: ComposedRanker | NativeRanker


def serve(catalog: Catalog, encoder: Encoder, index: Index) -> Served:
    """What serves a catalog, by the bundle's own encoder and index.

    The native ranker where both are native and the catalog is still the bundle's; else a composed one.
    """
    model = catalog.model
    if not catalog.is_updated:
        if isinstance(encoder, NativeEncoder) and isinstance(index, ScanIndex):
            return Served(catalog, index, NativeRanker(catalog, encoder, index))
        return Served(catalog, index, ComposedRanker(catalog, encoder, index))
    if catalog.added:
        encoder = encoder.enlarged(catalog.embeddings)
    index = EnlargedIndex(index, model.n_items, catalog.vectors, catalog.gone)
    return Served(catalog, index, ComposedRanker(catalog, encoder, index))


class ComposedRanker:
    """`Ranker` of any encoder and any index."""

    def __init__(self, catalog: Catalog, encoder: Encoder, index: Index) -> None:
        self._encoder, self._index = encoder, index
        self._scale, self._n_items = catalog.scale, catalog.n_items
        self._memory = Remembering.of(catalog)

    def rank(
        self, sessions: Sessions, k: int, conditions: Conditions, stages: dict[str, float] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Ranker.rank`."""
        start = perf_counter_ns()
        queries = self._encoder.encode(sessions)
        encoded = perf_counter_ns()
        excluded = _NOTHING if conditions.excluded is None else conditions.excluded
        dropped = None
        if conditions.exclude_seen:
            dropped = [np.union1d(excluded, clicks) for clicks in sessions]
        elif len(excluded):
            dropped = [excluded] * len(sessions)
        width = k if self._memory is None else self._memory.width(k)
        ranked = retrieve(self._index, self._n_items, queries, width, conditions.allowed, dropped, self._scale)
        found = perf_counter_ns()
        if stages is not None:
            stages |= {"encode": (encoded - start) / 1000, "retrieve": (found - encoded) / 1000}
        if self._memory is not None:
            ranked = self._memory.rank(sessions, k, queries, ranked, conditions.allowed, dropped)
            if stages is not None:
                stages["memory"] = (perf_counter_ns() - found) / 1000
        return ranked


class NativeRanker:
    """`Ranker` in one native call. `engine` also takes external ids and live sessions: see its module."""

    def __init__(self, catalog: Catalog, encoder: NativeEncoder, index: ScanIndex) -> None:
        self._encoder = encoder
        model, memory = catalog.model, Remembering.of(catalog)
        parts = () if memory is None else (memory.memory.native, memory.ranker.native)
        self.engine = Engine(model.ids.table, encoder.encoder.native, index.scanner.native, model.config.scale, *parts)

    def new_state(self) -> Any:
        """The native encoder's state of a session without clicks, for `engine.recommend_live`."""
        return self._encoder.encoder.native.session()

    def rank(
        self, sessions: Sessions, k: int, conditions: Conditions, stages: dict[str, float] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Ranker.rank`."""
        ids, scores, times = self.engine.rank(
            sessions.items, sessions.offsets, k, conditions.excluded, conditions.bits, conditions.exclude_seen
        )
        if stages is not None:
            add_times(stages, times)
        return ids, scores


def add_times(stages: dict[str, float], times: tuple[float, float, float, float | None]) -> None:
    """Add the engine's times (see its module) to microseconds by stage."""
    lookup, stages["encode"], stages["retrieve"], memory = times
    stages["lookup"] = stages.get("lookup", 0.0) + lookup
    if memory is not None:
        stages["memory"] = memory


def most_popular(catalog: Catalog, k: int, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
    """The k most clicked items: ids int32[k] and click counts float32[k], padded with -1 / -inf."""
    order, excluded = catalog.most_clicked, conditions.excluded
    if conditions.allowed is not None:
        order = order[conditions.allowed.mask[order]]
    if excluded is not None:
        order = order[: k + len(excluded)]
        order = order[np.isin(order, excluded, invert=True)]
    order = order[:k]
    ids = np.full(k, -1, dtype=np.int32)
    scores = np.full(k, -np.inf, dtype=np.float32)
    ids[: len(order)] = order
    scores[: len(order)] = catalog.popularity[order]
    return ids, scores


def clicked_together(
    catalog: Catalog, item: int, k: int, conditions: Conditions
) -> tuple[np.ndarray, np.ndarray] | None:
    """The k items that past sessions hold most with `item`, an internal id, and their cosines (`memory.pairs`).

    ids int32[k], scores float32[k], padded with -1 / -inf; None where the bundle has no memory.
    """
    memory = catalog.model.memory
    if memory is None:
        return None
    others, cosines = neighbours(memory, item)
    fine = ~catalog.gone[others] & (cosines > 0)
    if conditions.allowed is not None:
        fine &= conditions.allowed.mask[others]
    if conditions.excluded is not None:
        fine &= np.isin(others, conditions.excluded, invert=True)
    others, cosines = others[fine], cosines[fine]
    order = np.lexsort((others, -cosines))[:k]
    ids = np.full(k, -1, dtype=np.int32)
    scores = np.full(k, -np.inf, dtype=np.float32)
    ids[: len(order)], scores[: len(order)] = others[order], cosines[order]
    return ids, scores


def assembled(
    catalog: Catalog,
    row: tuple[np.ndarray, np.ndarray],
    clicks: np.ndarray,
    unknown: list[Any],
    repeats: bool,
    reasons: bool = False,
) -> Recommendations:
    """One row of a ranking (ids int32[k], scores float32[k]) as an answer, padding cut off.

    clicks: the session's known ones, int32[m]; where there is none the row is the popularity ranking.
    """
    ids, scores = row
    count = int(np.count_nonzero(ids >= 0))
    return Recommendations(
        catalog.ids.external(ids[:count]),
        scores[:count].copy(),
        unknown,
        fallback=len(clicks) == 0,
        repeats=np.isin(ids[:count], clicks) if repeats else None,
        reasons=reasons_of(catalog, clicks, ids[:count]) if reasons and len(clicks) else None,
    )


def explained(catalog: Catalog, answer: Recommendations, clicks: np.ndarray) -> Recommendations:
    """An answer to the known clicks int32[m], m >= 1, with its reasons."""
    return replace(answer, reasons=reasons_of(catalog, clicks, catalog.ids.lookup(answer.items)))


def retrieve(
    index: Index,
    n_items: int,
    queries: np.ndarray,
    k: int,
    allowed: Filter | None,
    dropped: list[np.ndarray] | None,
    scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The index's top k of queries float32[B, d], less each query's own `dropped` ids (distinct, int[..]).

    The first k + n of an exact ranking hold the first k that remain after any n are dropped.
    """
    if dropped is None:
        return index.search(queries, k, allowed, scale=scale)
    ids = np.full((len(queries), k), -1, dtype=np.int32)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    # Rounded up to powers of two, so that one long list does not widen the search of every query.
    extra = np.array([1 << (len(ids) - 1).bit_length() if len(ids) else 0 for ids in dropped])
    for width in np.unique(extra):
        rows = np.flatnonzero(extra == width)
        fetch = min(k + int(width), n_items)
        found, values = index.search(queries[rows], fetch, allowed, scale=scale)
        for row, row_ids, row_values in zip(rows, found, values, strict=True):
            kept = np.flatnonzero(np.isin(row_ids, dropped[row], invert=True))[:k]
            ids[row, : len(kept)] = row_ids[kept]
            scores[row, : len(kept)] = row_values[kept]
    return ids, scores
