"""The cold-start prior: what the session memory learns about a new item with neighbors.

The memory knows nothing about an item that no session holds, and the ranker then ranks it last, whatever its vector
is. So an item starts with made-up sessions, of a click on a neighbor and one on the item: in the memory 12 for each
neighbor that was named by hand, 3 for each one that its attributes suggest; in the trends 1. They are evidence like any
other, and real clicks soon outweigh them. The delta holds these sessions as long as it lives. They are not part of the
tables, of popularity, or of what a bundle says about its clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_query import SessionMemory
from mtaw_fast.kernels.native.trends import Trends
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.model.model import Model
from mtaw_fast.online.state.content_prior import ContentPrior
from mtaw_fast.ranking.catalog import Catalog

# Of an item and one neighbor that was named by hand: with 96, such items are in every other ranking around them.
SESSIONS = 12
CONTENT_SESSIONS = 3  # 5 finds more new targets and costs the others more (bench.quality.new_items)
_NEW_ITEMS = 65_536
_DAY = 86_400_000  # ms
_FIRST_IN_TRENDS = -(1 << 40)  # handles of made-up sessions; those of the tables' sessions lie above


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
    lists = [] if neighbors is None else [catalog.ids.lookup(row).tolist() for row in neighbors]
    return _with_sessions(catalog, wider, lists, SESSIONS, catalog.model.learned_until)


def started(catalog: Catalog) -> Catalog:
    """Return the catalog with which a bundle is served without learning: with the priors that an update or a compaction
    kept, and with its new rows."""
    progress = catalog.model.log_progress
    if progress is not None and catalog.model.memory is not None:
        seeds = progress.seed_items.tolist(), progress.seed_neighbors.tolist(), progress.seed_times.tolist()
        priors = [(item, neighbor, SESSIONS, time or None) for item, neighbor, time in zip(*seeds, strict=True)]
        priors += [(item, other, CONTENT_SESSIONS, day_before(time)) for item, other, time in progress.content_priors]
        if priors:
            catalog, first = _with_delta(catalog, _NEW_ITEMS), 0
            assert catalog.delta is not None
            for item, neighbor, count, time in priors:
                first = add_prior(catalog.delta, catalog.trends, item, neighbor, first, count, time)
    return with_new_rows(catalog)


def with_new_rows(catalog: Catalog) -> Catalog:
    """Return the next state, with the items whose rows are new or came since the training, if attributes say enough."""
    table, trained = catalog.items, catalog.model.items
    if table is None or catalog.model.content is None:
        return catalog
    prior = ContentPrior(catalog.model)
    known = frozenset(() if trained is None else trained.waiting.ids).difference(() if trained is None else trained.new)
    vectors = prior.of_waiting(table, [item for item in table.waiting.ids if item not in known])
    if not vectors:
        return catalog
    load = np.zeros(catalog.model.n_items, dtype=np.int64)
    lists = [prior.neighbors(vector, load) for vector in vectors.values()]
    wider = catalog.with_items(list(vectors), np.stack([*vectors.values()]), None)
    newest = catalog.model.learned_until or 0
    return _with_sessions(catalog, wider, lists, CONTENT_SESSIONS, day_before(newest))


def day_before(time: int) -> int | None:
    """Return the time of made-up sessions that attributes suggest: older ones, so that the item does not count as
    rising; None if 0, unknown."""
    return time - _DAY if time > _DAY else None


def _with_sessions(
    catalog: Catalog, wider: Catalog, lists: Sequence[Sequence[int]], sessions: int, time: int | None
) -> Catalog:
    """Return `wider`, whose new items have made-up sessions with their neighbors: lists of internal ids, one for each.

    catalog: the state before it. No list: nothing is learned of the items.
    """
    delta, count = catalog.delta, wider.size - catalog.size
    if delta is not None and wider.size > delta.n_catalog:
        raise DataError(
            f"{count:,} more items would make {len(wider.added):,} added ones; the session memory has room for "
            f"{delta.n_catalog - catalog.model.n_items:,}; load the bundle again and add all of them in one call"
        )
    if catalog.model.memory is None or not lists:
        return wider
    # All states share the delta of the first one that needed a delta, so that its priors stay.
    if delta is None:
        wider = _with_delta(wider, max(_NEW_ITEMS, 2 * len(wider.added)))
        delta = wider.delta
    assert delta is not None
    for internal_id, neighbors in zip(range(catalog.size, wider.size), lists, strict=True):
        for neighbor in neighbors:
            add_prior(delta, wider.trends, internal_id, neighbor, delta.n_sessions, sessions, time)
    return wider


def _with_delta(catalog: Catalog, new_items: int) -> Catalog:
    """Return the catalog with an empty delta, for `new_items` more items, and trends that made-up sessions enter."""
    memory, delta = memory_with_delta(catalog.model, new_items)
    trends = None if catalog.model.trends is None else catalog.model.trends.live(delta.n_catalog, once=True)
    return replace(catalog, memory=memory, delta=delta, trends=trends)


def add_prior(
    delta: MemoryDelta, trends: Trends | None, item: int, neighbor: int, first: int, count: int, time: int | None
) -> int:
    """Add `count` made-up sessions of an item and one neighbor; return how many made-up sessions there are now.

    trends: get one session of that time, Unix milliseconds. first: how many there were before. Their handles are
    negative.
    """
    pair = np.array([neighbor, item], dtype=np.int32)
    handles = np.repeat(-1 - np.arange(first, first + count, dtype=np.int64), 2)
    delta.click(handles, np.tile(pair, count))
    if trends is not None and time is not None:
        trends.click(np.full(2, _FIRST_IN_TRENDS - first, dtype=np.int64), pair, np.full(2, time, dtype=np.int64))
    return first + count
