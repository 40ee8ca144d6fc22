"""A model with finished sessions merged in: tables, counts and new items change; encoder and ranker stay as trained.

Axes: N items, M new ones after them, S sessions, T clicks, d dimensions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mtaw_fast.data.context import ClickContext
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.items import ItemTable
from mtaw_fast.kernels.native.memory_tables import PAIR_KINDS
from mtaw_fast.memory.bfloat16 import from_bfloat16
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.memory.tables import MemoryTables
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.item_vectors import mean_norm
from mtaw_fast.model.model import Model
from mtaw_fast.online.state.new_items import evidence_vector

_COUNTED = 50_000  # sessions that are counted at a time: what that takes is small next to the tables
_FWD, _BWD = PAIR_KINDS.index("fwd"), PAIR_KINDS.index("bwd")


@dataclass(frozen=True, slots=True, eq=False)
class ModelChanges:
    """What to merge into a model.

    sessions: new ones of internal ids 0..N+M-1, ordered by last click, with their times, and their types and context if
    the model keeps these. dropped: int32[..], ascending indices, in the tables, of the sessions to remove. items:
    external ids of the M new items, in order. vectors: float32[M, d], the directions of their attributes, zero if none;
    what was given by hand and the sessions may change them. log_progress: what the new model knows about its log; the
    indices of sessions in it are those of the new tables. table: of the items, N + M.
    """

    sessions: Sessions
    dropped: np.ndarray
    items: Sequence[int | str]
    vectors: np.ndarray
    log_progress: LogProgress
    table: ItemTable | None = None


def merge(model: Model, changes: ModelChanges, *, threads: int = 1) -> Model:
    """Return the model, over N + M items, with changes merged in.

    Its tables are, to the bit, those of a rebuild from all its sessions. threads: for the tables.
    """
    assert model.memory is not None
    n_items = model.n_items + len(changes.items)
    tables = model.memory.update(changes.sessions, drop=changes.dropped, n_items=n_items, once=True, threads=threads)
    first = model.memory.settings.once_from
    once = np.zeros(len(changes.dropped), dtype=bool) if first is None else changes.dropped >= first
    lost_clicks = counted_clicks(model.memory.sessions.select(changes.dropped), once, n_items)
    popularity = np.concatenate([model.popularity, np.zeros(len(changes.items), dtype=np.int64)]) - lost_clicks
    popularity += counted_clicks(changes.sessions, np.ones(len(changes.sessions), dtype=bool), n_items)
    embedding, untrained = model.weights["item_embedding"], changes.log_progress.untrained
    if len(untrained):
        vectors = _untrained_vectors(model, changes, tables) * np.float32(mean_norm(embedding))
        embedding = np.concatenate([embedding, np.zeros((len(changes.items), embedding.shape[1]), dtype=np.float32)])
        embedding[untrained] = vectors
    clicked_at, trends, codes = _of_clicks("times", model, changes), None, _of_clicks("context", model, changes)
    if model.trends is not None:
        assert clicked_at is not None
        clicks, sizes = replace(tables.sessions, context=codes), model.trends.context_sizes
        once_from = tables.settings.once_from
        trends = TrendTables.build(
            clicks,
            clicked_at,
            n_items,
            model.trends.settings,
            once_from=once_from,
            threads=threads,
            context_sizes=sizes,
        )
    ids = model.ids
    if len(changes.items):
        ids = ItemIds.from_list([*ids.external(np.arange(len(ids), dtype=np.int32)), *changes.items])
    merged = Model.of(
        config=model.config,
        weights={**model.weights, "item_embedding": embedding},
        ids=ids,
        popularity=popularity,
        memory=tables,
        ranker_net=model.ranker_net,
        clicked_at=clicked_at,
        trends=trends,
        items=changes.table,
        content=model.content,
        context=None if model.context is None or codes is None else ClickContext(model.context.columns, codes),
        types=_of_clicks("types", model, changes),
    )
    return replace(merged, log_progress=changes.log_progress)


def _untrained_vectors(model: Model, changes: ModelChanges, tables: MemoryTables) -> np.ndarray:
    """Return float32[U, d], the directions of the U untrained items by the new tables; zero where nothing is known."""
    assert model.memory is not None
    untrained = changes.log_progress.untrained
    vectors = np.concatenate([model.item_vectors[untrained[untrained < model.n_items]], changes.vectors])
    row_of = {item: row for row, item in enumerate(untrained.tolist())}

    def directions(items: np.ndarray) -> np.ndarray:
        rows = [row_of.get(item, -1) for item in items.tolist()]
        known = [vectors[row] if row >= 0 else model.item_vectors[item] for row, item in zip(rows, items, strict=True)]
        return np.stack(known) if known else vectors[:0]

    progress, table = changes.log_progress, changes.table
    given = dict(zip(progress.given_items.tolist(), progress.given_vectors.reshape(-1, vectors.shape[1]), strict=True))
    seeds = defaultdict[int, list[int]](list)
    for item, neighbor in zip(progress.seed_items.tolist(), progress.seed_neighbors.tolist(), strict=True):
        seeds[item].append(neighbor)

    def direction_of(item: int, vector: np.ndarray) -> np.ndarray | None:
        """Return what speaks for an item besides the sessions. vector: what it has."""
        if item in given:
            return given[item]
        if item in seeds:
            return directions(np.array(seeds[item])).astype(np.float64).mean(axis=0)
        if item not in dropped:
            return vector if vector.any() else None
        if model.content is None or table is None:
            return None
        content = model.content.vectors(table, np.array([item]))[0]
        return content if content.any() else None

    # The vectors that these items have hold what the dropped sessions said: only those that are left count.
    dropped = set(model.memory.sessions.select(changes.dropped).items.tolist())
    for item, row in row_of.items():
        begin, end = tables.row_offsets[item : item + 2]
        if begin < end or item in dropped or not vectors[row].any():
            values = from_bfloat16(tables.values[begin:end]).astype(np.float64)
            weights = values[:, _FWD] + values[:, _BWD]
            direction = direction_of(item, vectors[row])
            vectors[row] = evidence_vector(weights, directions(tables.neighbors[begin:end]), direction)
    return vectors


def _of_clicks(name: Literal["times", "types", "context"], model: Model, changes: ModelChanges) -> np.ndarray | None:
    """Return the times, types or context of all clicks of the new tables; None if some clicks have none."""
    sessions = model.sessions
    if len(changes.dropped):
        sessions = sessions.select(np.setdiff1d(np.arange(len(sessions)), changes.dropped))
    before, new = getattr(sessions, name), getattr(changes.sessions, name)
    return None if before is None or new is None else np.concatenate([before, new])


def counted_clicks(sessions: Sessions, once: np.ndarray, n_items: int) -> np.ndarray:
    """Return int64[N]: the clicks on each item.

    once: bool[S], whether only the first click of a session on an item counts.
    """
    counts = np.zeros(n_items, dtype=np.int64)
    for begin in range(0, len(sessions), _COUNTED):
        part = sessions.slice(begin, min(begin + _COUNTED, len(sessions)))
        owners = np.repeat(np.arange(len(part)), part.lengths)
        counted_once = once[begin : begin + _COUNTED][owners]
        distinct = np.unique(owners[counted_once] * n_items + part.items[counted_once]) % n_items
        counts += np.bincount(part.items[~counted_once], minlength=n_items) + np.bincount(distinct, minlength=n_items)
    return counts
