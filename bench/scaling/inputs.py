"""What is measured on: vectors, weights, sessions and models of any size, none of them trained."""

from __future__ import annotations

import numpy as np

from bench.retrieval.clustered import clustered_vectors
from mtaw_fast.config import preset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import draw_sessions
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.model.model import Model
from mtaw_fast.model.parameters import parameter_shapes, starting_weights
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import NativeIndex

_HIDDEN = (64, 32)


def plain_model(n_items: int, d: int, name: str = "paper") -> Model:
    """A model of the preset with clustered item vectors and random other weights; ids are 1..N."""
    config = preset(name).replace(embedding_dim=d)
    rng = np.random.default_rng(0)
    bound = d**-0.5
    weights = {"item_embedding": clustered_vectors(n_items, d, 1)[0]}
    for part, shape in parameter_shapes(config, n_items).items():
        if part not in weights:
            weights[part] = rng.uniform(-bound, bound, shape).astype(np.float32)
    weights["norm_weight"], weights["norm_bias"] = np.ones(d, np.float32), np.zeros(d, np.float32)
    if config.model.recent_weight > 0:
        weights["recent"] = np.array(starting_weights(config), dtype=np.float32)
    ids, popularity = ItemIds.from_list(list(range(1, n_items + 1))), np.ones(n_items, np.int64)
    return Model.of(config=config, weights=weights, ids=ids, popularity=popularity)


def memory_model(tables: MemoryTables, n_items: int, d: int, ranker: RankerNet) -> Model:
    """A model of the preset `full` around tables."""
    bare = plain_model(n_items, d, "full")
    return Model.of(
        config=bare.config, weights=bare.weights, ids=bare.ids, popularity=bare.popularity, memory=tables,
        ranker_net=ranker,
    )  # fmt: skip


def random_ranker() -> RankerNet:
    """Random weights of the shape that a fit gives."""
    rng, features = np.random.default_rng(0), feature_names()
    n, (first, second) = len(features), _HIDDEN
    shapes = {"mean": (n,), "scale": (n,), "linear": (n,), "w1": (n, first), "b1": (first,), "w2": (first, second)}
    shapes |= {"b2": (second,), "w3": (second,), "bias": (1,)}
    return RankerNet(features, **{name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()})


def shop_model(n_items: int, n_sessions: int, d: int = 100) -> Model:
    """A model of the preset `full` over tables of a generated log."""
    tables = MemoryTables.build(draw_sessions(n_items, n_sessions), n_items)
    return memory_model(tables, n_items, d, random_ranker())


def pipeline_of(model: Model) -> Pipeline:
    """The path that serves."""
    index = NativeIndex(model.item_vectors, model.scan)
    return Pipeline.of(Catalog.of(model), NativeEncoder(model.config, model.weights), index)


def sessions_of(n_items: int, length: int, count: int) -> Sessions:
    """`count` sessions of so many clicks, whose items follow a power law."""
    rng = np.random.default_rng(length)
    items = (n_items * rng.random((count, length)) ** 3).astype(np.int32)
    return Sessions.from_lists(items)
