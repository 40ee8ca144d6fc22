"""Untrained inputs of any size: vectors, weights, sessions, models and training steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.harness.workload import random_ranker
from bench.retrieval.vectors import clustered_vectors
from bench.scaling.point import Work
from mtaw_fast.config import preset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import draw_sessions
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import MemoryTables
from mtaw_fast.model.model import Model
from mtaw_fast.model.parameters import parameter_shapes, starting_weights
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import NativeIndex

_BATCHES = 4
_LENGTH = 9  # clicks: 8 samples a session
_FULL_RATE = 1.0  # epochs done: after the warm-up


def plain_model(n_items: int, d: int, name: str = "paper", **more: Any) -> Model:
    """Return a model of the preset with clustered item vectors and random other weights; ids are 1..N.

    more: further parts of the model.
    """
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
    return Model.of(config=config, weights=weights, ids=ids, popularity=popularity, **more)


def memory_model(tables: MemoryTables, n_items: int, d: int) -> Model:
    """Return a model of the preset `full` around tables, with a random ranker."""
    ranker = random_ranker(feature_names(), np.random.default_rng(0))
    return plain_model(n_items, d, "full", memory=tables, ranker_net=ranker)


def shop_model(n_items: int, n_sessions: int, d: int) -> Model:
    """Return a model of the preset `full` over tables of a generated log."""
    return memory_model(MemoryTables.build(draw_sessions(n_items, n_sessions), n_items), n_items, d)


def pipeline_of(model: Model) -> Pipeline:
    """Return the path that serves."""
    index = NativeIndex(model.item_vectors, model.scan)
    return Pipeline.of(Catalog.of(model), NativeEncoder(model.config, model.weights), index)


def sessions_of(n_items: int, length: int, count: int) -> Sessions:
    """Draw `count` sessions of `length` clicks whose items follow a power law."""
    rng = np.random.default_rng(length)
    items = (n_items * rng.random((count, length)) ** 3).astype(np.int32)
    return Sessions.from_lists(items)


def step_work(n_items: int, samples: int, d: int, threads: int) -> Work:
    """Return steps on `samples` prefixes (8 in each session, the last session cut) over N items of d dimensions."""
    import torch

    from mtaw_fast.model.mtaw import MTAW
    from mtaw_fast.training.steps.batch import Batch
    from mtaw_fast.training.steps.full_step import Stepper
    from mtaw_fast.training.threads import Threads, training_threads

    config = preset("paper").replace(embedding_dim=d)
    model = MTAW(config, n_items)
    vectors = clustered_vectors(n_items, d, 1)[0]
    with torch.no_grad():
        model.item_embedding.copy_(torch.from_numpy(vectors))
    del vectors
    batches = []
    for number in range(_BATCHES):
        full_sessions = sessions_of(n_items, _LENGTH, -(-samples // (_LENGTH - 1)))
        lengths = np.full(len(full_sessions), _LENGTH)
        lengths[-1] -= len(full_sessions) * (_LENGTH - 1) - samples
        clicks = np.roll(full_sessions.items, number).reshape(-1, _LENGTH)
        sessions = Sessions.from_lists([row[:length] for row, length in zip(clicks, lengths, strict=True)])
        batches.append(Batch.of(sessions, 1, torch.device("cpu")))
    settings = Threads.of(threads)
    with training_threads(settings):
        stepper = Stepper(model, config)

    def call(number: int) -> None:
        with training_threads(settings):
            stepper.step(batches[number % _BATCHES], _FULL_RATE)

    return Work(call)
