"""A model that has taken finished sessions in: tables, counts, new items; the encoder and the ranker stay as trained.

Axes: N items, M new ones behind them, S sessions, T clicks, d dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.memory_tables import PAIR_KINDS
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.item_vectors import mean_norm
from mtaw_fast.model.model import Model
from mtaw_fast.online.state.new_items import evidence_vector

_FWD, _BWD = PAIR_KINDS.index("fwd"), PAIR_KINDS.index("bwd")


@dataclass(frozen=True, slots=True, eq=False)
class MergedModel:
    """What a model takes in.

    Attributes
    ----------
    sessions : Sessions
        New sessions of internal ids 0..N+M-1, ordered by last click, with their times.
    dropped : int32[..]
        Ascending places in the tables of sessions that go.
    items : sequence
        External ids of the M new items, by place.
    vectors : float32[M, d]
        Their directions so far; zero where nothing is known. Sessions may say more.
    log_progress : LogProgress
        What the new model knows of its log; `sessions` and `seed` places are those of the new tables.
    """

    sessions: Sessions
    dropped: np.ndarray
    items: Sequence[int | str]
    vectors: np.ndarray
    log_progress: LogProgress


def grown(model: Model, growth: MergedModel, *, threads: int = 1) -> Model:
    """The model with `growth`: tables to the bit those of a rebuild from all its sessions.

    Parameters
    ----------
    model : Model
        With a session memory; not changed.
    growth : MergedModel
        What comes and goes.
    threads : int, default 1
        For the tables.

    Returns
    -------
    Model
        Over N + M items.
    """
    assert model.memory is not None
    n_items = model.n_items + len(growth.items)
    tables = model.memory.update(growth.sessions, drop=growth.dropped, n_items=n_items, threads=threads)
    gone = _clicks_of(model.memory.sessions, growth.dropped, n_items)
    popularity = np.concatenate([model.popularity, np.zeros(len(growth.items), dtype=np.int64)]) - gone
    popularity += np.bincount(growth.sessions.items, minlength=n_items)
    embedding = model.weights["item_embedding"]
    vectors = np.concatenate([model.item_vectors, growth.vectors])
    untrained = growth.log_progress.untrained
    for item in untrained.tolist():
        begin, end = tables.row_offsets[item : item + 2]
        if begin < end:
            values = _floats(tables.values[begin:end])
            weights = values[:, _FWD] + values[:, _BWD]
            vectors[item] = evidence_vector(weights, vectors[tables.neighbors[begin:end]], _given(vectors[item]))
    norm = np.float32(mean_norm(embedding))
    embedding = np.concatenate([embedding, np.zeros((len(growth.items), embedding.shape[1]), dtype=np.float32)])
    embedding[untrained] = vectors[untrained] * norm
    clicked_at, trends = _times(model, growth), None
    if model.trends is not None:
        assert clicked_at is not None
        trends = TrendTables.build(tables.sessions, clicked_at, n_items, model.trends.settings, threads=threads)
    ids = model.ids
    if len(growth.items):
        ids = ItemIds.from_list([*ids.external(np.arange(len(ids), dtype=np.int32)), *growth.items])
    whole = Model.of(
        config=model.config,
        weights={**model.weights, "item_embedding": embedding},
        ids=ids,
        popularity=popularity,
        memory=tables,
        ranker_net=model.ranker_net,
        clicked_at=clicked_at,
        trends=trends,
    )
    return replace(whole, log_progress=growth.log_progress)


def _times(model: Model, growth: MergedModel) -> np.ndarray | None:
    """int64[T]: when the clicks of the new tables were; None where it is not known of all of them."""
    sessions = model.sessions
    if sessions.times is None or growth.sessions.times is None:
        return None
    left = sessions.select(np.setdiff1d(np.arange(len(sessions)), growth.dropped)) if len(growth.dropped) else sessions
    return np.concatenate([left.times, growth.sessions.times])


def _given(vector: np.ndarray) -> np.ndarray | None:
    return vector if vector.any() else None


def _clicks_of(sessions: Sessions, places: np.ndarray, n_items: int) -> np.ndarray:
    """int64[N]: clicks in some of the sessions."""
    if len(places) == 0:
        return np.zeros(n_items, dtype=np.int64)
    return np.bincount(sessions.select(places).items, minlength=n_items)


def _floats(bits: np.ndarray) -> np.ndarray:
    """float64 of bfloat16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
