"""What the session memory is told of an item that was added by hand with some neighbours.

Without a session that holds it, the memory has nothing to say of an item, and the ranker leaves it behind whatever its
vector is like. So an item begins as a usual partner of every neighbour that is named with it: their pair has the
statistics that the neighbour's strongest pairs have at the median. It is evidence like any other, and fades among
what is clicked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_query import SessionMemory
from mtaw_fast.kernels.native.memory_tables import PAIR_KINDS
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.model.model import Model
from mtaw_fast.ranking.catalog import Catalog

_STRONGEST = 10  # pairs of a neighbour that the median is of
_NEW_ITEMS = 65_536


def memory_with_delta(model: Model, new_items: int = _NEW_ITEMS) -> tuple[SessionMemory, MemoryDelta]:
    """What queries ask, and an empty delta that they read beside the model's tables.

    Parameters
    ----------
    model : Model
        With a session memory.
    new_items : int, default 65_536
        Items that may come.

    Raises
    ------
    ValueError
        Where the model has no session memory.
    """
    tables = model.memory
    if tables is None or tables.settings.recency is None:
        raise ValueError("a model without a session memory cannot learn")
    settings = tables.settings
    assert settings.recency is not None
    delta = MemoryDelta(
        tables.arrays(),
        window=settings.window,
        span=settings.span,
        recency=settings.recency,
        max_neighbours=settings.max_neighbours,
        max_postings=settings.max_postings,
        capacity=new_items,
    )
    return tables.queries(delta.n_catalog, query_settings(model.config, model.trends is not None), delta=delta), delta


def with_named(
    catalog: Catalog, items: Sequence[Any], vectors: np.ndarray | None, neighbours: Sequence[Sequence[Any]] | None
) -> Catalog:
    """`Catalog.with_items`, and what the session memory is told of the items where they come with neighbours."""
    wider = catalog.with_items(items, vectors, neighbours)
    tables = catalog.model.memory
    if tables is None or neighbours is None:
        return wider
    # Seeds of one state stay in the next: the delta belongs to the first that had any.
    delta, memory, trends = catalog.delta, catalog.memory, catalog.trends
    if delta is None or memory is None:
        memory, delta = memory_with_delta(catalog.model)
        trends = None if catalog.model.trends is None else catalog.model.trends.live(delta.n_catalog)
    for place, near in zip(range(catalog.size, wider.size), neighbours, strict=True):
        for neighbour in catalog.ids.lookup(near).tolist():
            seed_pair(delta, tables, place, neighbour)
    return replace(wider, memory=memory, delta=delta, trends=trends)


def seed_pair(delta: MemoryDelta, tables: MemoryTables, item: int, neighbour: int) -> None:
    """Make `item` a usual partner of `neighbour` and the other way round."""
    values = _strongest(delta, tables, neighbour)
    typical = np.median(values, axis=0) if len(values) else np.ones(len(PAIR_KINDS))
    delta.seed(item, neighbour, typical)
    delta.seed(neighbour, item, typical)


def _strongest(delta: MemoryDelta, tables: MemoryTables, item: int) -> np.ndarray:
    """float64[P, 6]: the statistics of an item's strongest pairs."""
    if item >= tables.n_items:
        return delta.row(item)[1][:_STRONGEST]
    begin, end = tables.row_offsets[item : item + 2]
    bits = tables.values[begin : min(end, begin + _STRONGEST)].astype(np.uint32) << 16
    return bits.view(np.float32).astype(np.float64)
