"""The cold-start prior: what the session memory learns about a new item with neighbors.

The memory knows nothing about an item that no session holds, and the ranker then ranks it last, whatever its vector
is. So an item starts with made-up sessions, of a click on a neighbor and one on the item: 12 for each neighbor that was
named by hand, 3 for each one that its attributes suggest. They are evidence like any other, and real clicks soon
outweigh them. The delta holds these sessions as long as it lives. They are not part of the tables, of popularity, or of
what a bundle says about its clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_query import SessionMemory
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.model.model import Model
from mtaw_fast.ranking.catalog import Catalog

# Of an item and one neighbor that was named by hand: with 96, such items are in every other ranking around them.
SESSIONS = 12
CONTENT_SESSIONS = 3
_NEW_ITEMS = 65_536


def memory_with_delta(model: Model, new_items: int = _NEW_ITEMS) -> tuple[SessionMemory, MemoryDelta]:
    """Return the memory to query, and an empty delta that it reads together with the model's tables.

    new_items: how many may be added. Raises ValueError if the model has no session memory.
    """
    tables = model.memory
    if tables is None or tables.settings.recency is None:
        raise ValueError("a model without a session memory cannot learn")
    settings = tables.settings.native
    if settings.once_from is None:
        settings = settings._replace(once_from=tables.n_sessions)
    delta = MemoryDelta(tables.arrays(), settings, capacity=new_items)
    return tables.queries(delta.n_catalog, query_settings(model.config, model.trends is not None), delta=delta), delta


def with_priors(
    catalog: Catalog, items: Sequence[Any], vectors: np.ndarray | None, neighbors: Sequence[Sequence[Any]] | None
) -> Catalog:
    """Return `Catalog.with_items`, with the prior of each item in the session memory if the items have neighbors."""
    catalog.check_new(items)
    returning = catalog.returning(items)
    if returning.any():
        catalog.with_items(items, vectors, neighbors)  # raises if they do not fit
        returned = catalog.with_returned([item for item, returns in zip(items, returning, strict=True) if returns])
        rows = np.flatnonzero(~returning).tolist()
        return with_priors(
            returned,
            [items[row] for row in rows],
            None if vectors is None else np.asarray(vectors)[rows],
            None if neighbors is None else [neighbors[row] for row in rows],
        )
    wider = catalog.with_items(items, vectors, neighbors)
    delta, memory, trends = catalog.delta, catalog.memory, catalog.trends
    if delta is not None and wider.size > delta.n_catalog:
        raise DataError(
            f"{len(items):,} more items would make {len(wider.added):,} added ones; the session memory has room for "
            f"{delta.n_catalog - catalog.model.n_items:,}; load the bundle again and add all of them in one call"
        )
    if catalog.model.memory is None or neighbors is None:
        return wider
    # All states share the delta of the first one that needed a delta, so that its priors stay.
    if delta is None or memory is None:
        memory, delta = memory_with_delta(catalog.model, max(_NEW_ITEMS, 2 * len(wider.added)))
        trends = None if catalog.model.trends is None else catalog.model.trends.live(delta.n_catalog, once=True)
    for internal_id, item_neighbors in zip(range(catalog.size, wider.size), neighbors, strict=True):
        for neighbor in catalog.ids.lookup(item_neighbors).tolist():
            add_prior(delta, internal_id, neighbor, delta.n_sessions, SESSIONS)
    return replace(wider, memory=memory, delta=delta, trends=trends)


def add_prior(delta: MemoryDelta, item: int, neighbor: int, first: int, count: int) -> int:
    """Add `count` made-up sessions of an item and one neighbor; return how many made-up sessions there are now.

    first: how many there were before. Their handles are negative.
    """
    handles = np.repeat(-1 - np.arange(first, first + count, dtype=np.int64), 2)
    delta.click(handles, np.tile(np.array([neighbor, item], dtype=np.int32), count))
    return first + count
