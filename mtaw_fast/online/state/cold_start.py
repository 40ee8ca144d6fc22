"""What the session memory is told of an item that was added by hand with some neighbors.

Without a session that holds it, the memory has nothing to say of an item, and the ranker leaves it behind whatever its
vector is like. So an item begins with made-up sessions: for every neighbor that is named with it, 96 of a click on the
neighbor and one on the item. It is evidence like any other, and fades among what is clicked. The delta holds these
sessions for as long as it lives; they are no part of the tables, of popularity, or of what a bundle says of its clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_query import SessionMemory
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.model.model import Model
from mtaw_fast.ranking.catalog import Catalog

_SESSIONS = 96  # of an item and one neighbor: with 24 a ranker leaves a third of such items behind
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
        max_neighbors=settings.max_neighbors,
        max_postings=settings.max_postings,
        capacity=new_items,
    )
    return tables.queries(delta.n_catalog, query_settings(model.config, model.trends is not None), delta=delta), delta


def with_named(
    catalog: Catalog, items: Sequence[Any], vectors: np.ndarray | None, neighbors: Sequence[Sequence[Any]] | None
) -> Catalog:
    """`Catalog.with_items`, and what the session memory is told of the items where they come with neighbors."""
    wider = catalog.with_items(items, vectors, neighbors)
    if catalog.model.memory is None or neighbors is None:
        return wider
    # Seeds of one state stay in the next: the delta belongs to the first that had any.
    delta, memory, trends = catalog.delta, catalog.memory, catalog.trends
    if delta is None or memory is None:
        memory, delta = memory_with_delta(catalog.model)
        trends = None if catalog.model.trends is None else catalog.model.trends.live(delta.n_catalog)
    for place, near in zip(range(catalog.size, wider.size), neighbors, strict=True):
        for neighbor in catalog.ids.lookup(near).tolist():
            prior_pair(delta, place, neighbor, delta.n_sessions)
    return replace(wider, memory=memory, delta=delta, trends=trends)


def prior_pair(delta: MemoryDelta, item: int, neighbor: int, first: int) -> int:
    """Add the made-up sessions of `item` and one neighbor.

    first: how many there are already: their handles lie below 0. Returns how many there are now.
    """
    handles = np.repeat(-1 - np.arange(first, first + _SESSIONS, dtype=np.int64), 2)
    delta.click(handles, np.tile(np.array([neighbor, item], dtype=np.int32), _SESSIONS))
    return first + _SESSIONS
