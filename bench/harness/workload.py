"""The inputs of a bench: a bundle with sessions, generated with planted clusters or from a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle, Model
from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.parameters import parameter_shapes

GENERATED_CLICKS = 10
TIMED = "generated, with times"
_SESSIONS = 4096
_PAST = 40_000  # sessions of a generated bundle with times
_DAY = 86_400_000
_SPREAD = 0.05  # of a generated ranker's weights


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """A bundle on disk and sessions of its items.

    serve: sessions to recommend for. train: sessions to train on, each longer than min_prefix.
    source: 'generated', or the data set's name.
    """

    bundle: Bundle
    serve: Sessions
    train: Sessions
    min_prefix: int
    source: str

    @property
    def params(self) -> dict[str, Any]:
        """What every row says about the workload."""
        clicks = round(float(self.serve.lengths.mean()), 1)
        return {
            "catalog": self.bundle.n_items,
            "d": self.bundle.config.model.embedding_dim,
            "data": self.source,
            "clicks": int(clicks) if clicks.is_integer() else clicks,
        }


def generated(n_items: int, folder: Path, seed: int = 0) -> Workload:
    """Generate random weights over clustered items, and sessions of 10 clicks that mostly stay in one cluster.

    Item vectors are a cluster's center plus noise of the same size, so that a query has many near neighbors, as
    trained embeddings do; within a cluster clicks follow a power law.
    """
    rng = np.random.default_rng(seed)
    n_clusters = max(2, round(math.sqrt(n_items)))
    cluster = rng.integers(0, n_clusters, n_items)
    bundle = _random_bundle(Config(), n_items, folder, rng, cluster)
    sessions = _clustered_sessions(rng, cluster, _SESSIONS)
    return Workload(bundle, sessions, sessions, 1, "generated")


def generated_with_times(n_items: int, folder: Path, seed: int = 0) -> Workload:
    """Generate as `generated` does, with a session memory and trends of 30 days of sessions, and a random ranker."""
    rng = np.random.default_rng([seed, 1])
    cluster = rng.integers(0, max(2, round(math.sqrt(n_items))), n_items)
    past = _clustered_sessions(rng, cluster, _PAST)
    starts = np.arange(_PAST, dtype=np.int64) * (30 * _DAY // _PAST)
    times = (1_700_000_000_000 + starts[:, None] + 10_000 * np.arange(GENERATED_CLICKS)).ravel()
    trends = TrendTables.build(past, times, n_items)
    parts = {
        "memory": MemoryTables.build(past, n_items),
        "ranker_net": random_ranker(feature_names(trends=True), rng),
        "clicked_at": times,
        "trends": trends,
    }
    bundle = _random_bundle(Config(), n_items, folder, rng, cluster, **parts)
    return Workload(bundle, _clustered_sessions(rng, cluster, _SESSIONS), past, 1, TIMED)


def from_bundle(path: Path, seed: int = 0) -> Workload:
    """Return a trained bundle with sessions of 10 clicks.

    They are the beginnings of sessions in its memory; without such sessions they are drawn by its popularity.
    """
    bundle = Bundle.load(path)
    rng = np.random.default_rng(seed)
    if bundle.memory is not None:
        past = bundle.memory.sessions
        long = rng.permutation(np.flatnonzero(past.lengths >= GENERATED_CLICKS))[:_SESSIONS]
        if len(long):
            sessions = Sessions.from_lists([session[:GENERATED_CLICKS] for session in past.select(long)])
            return Workload(bundle, sessions, sessions, 1, "its memory")
    weight = bundle.popularity + 1.0
    items = rng.choice(bundle.n_items, _SESSIONS * GENERATED_CLICKS, p=weight / weight.sum())
    sessions = Sessions.from_lists(items.astype(np.int32).reshape(_SESSIONS, GENERATED_CLICKS))
    return Workload(bundle, sessions, sessions, 1, "generated")


def from_data(path: Path, bundle_path: Path | None, folder: Path, seed: int = 0) -> Workload:
    """Return a data set's test prefixes (its last training sessions if it has no test) and its training sessions.

    Without a bundle the weights are random. Raises UsageError if the bundle has another catalog.
    """
    dataset = Dataset.load(path)
    rng = np.random.default_rng(seed)
    if bundle_path is None:
        cluster = rng.integers(0, max(2, round(math.sqrt(dataset.n_items))), dataset.n_items)
        bundle = _random_bundle(Config(), dataset.n_items, folder, rng, cluster)
    else:
        bundle = Bundle.load(bundle_path)
        if bundle.n_items != dataset.n_items:
            raise UsageError(
                f"the bundle {bundle_path} has {bundle.n_items} items, the data set {path} has {dataset.n_items}; "
                "take the bundle that was trained on it"
            )
    prefixes = dataset.test.prefixes if len(dataset.test) else dataset.train
    rows = rng.permutation(len(prefixes))[:_SESSIONS]
    longest = bundle.config.model.max_session_length
    usable = np.flatnonzero(dataset.train.lengths > dataset.min_prefix)
    train = dataset.train.select(usable).keep_last(longest + 1)
    return Workload(bundle, prefixes.select(rows).keep_last(longest), train, dataset.min_prefix, dataset.name)


def random_weights(config: Config, cluster: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw weights by name; items of a cluster, int[N], are near each other, as in a trained model."""
    d = config.model.embedding_dim
    bound = 1 / math.sqrt(d)
    weights = {
        name: rng.uniform(-bound, bound, shape).astype(np.float32)
        for name, shape in parameter_shapes(config, len(cluster)).items()
    }
    weights["norm_weight"], weights["norm_bias"] = np.ones(d, np.float32), np.zeros(d, np.float32)
    weights["item_embedding"] += rng.uniform(-bound, bound, (cluster.max() + 1, d)).astype(np.float32)[cluster]
    return weights


def random_ranker(
    names: Sequence[str], rng: np.random.Generator, spread: float = _SPREAD, **given: np.ndarray
) -> RankerNet:
    """Return a ranker of the size of a trained one, with random weights; given: arrays in their place."""
    n = len(names)
    shapes = {"linear": (n,), "w1": (n, 64), "b1": (64,), "w2": (64, 32), "b2": (32,), "w3": (32,)}
    drawn = {
        name: rng.normal(0, spread, shape).astype(np.float32) for name, shape in shapes.items() if name not in given
    }
    plain = {"mean": np.zeros(n, np.float32), "scale": np.ones(n, np.float32), "bias": np.zeros(1, np.float32)}
    return RankerNet(tuple(names), **{**plain, **drawn, **given})


def _random_bundle(
    config: Config, n_items: int, folder: Path, rng: np.random.Generator, cluster: np.ndarray, **more: Any
) -> Bundle:
    """Save a bundle with random weights; more: further parts of its model."""
    model = Model.of(
        config=config,
        weights=random_weights(config, cluster, rng),
        ids=ItemIds.from_list(range(1, n_items + 1)),
        popularity=rng.zipf(1.5, n_items).clip(max=10**6).astype(np.int64),
        **more,
    )
    return Bundle.save(folder, model, metrics={}, dataset={"name": "generated", "fingerprint": ""})


def _clustered_sessions(rng: np.random.Generator, cluster: np.ndarray, count: int) -> Sessions:
    """Draw `count` sessions of 10 clicks; nine of ten clicks are in the session's own cluster."""
    members = np.argsort(cluster, kind="stable")
    begins = np.searchsorted(cluster[members], np.arange(cluster.max() + 2))
    sizes = np.diff(begins)
    own_cluster = rng.choice(np.flatnonzero(sizes), count)
    shape = (count, GENERATED_CLICKS)
    rank = np.floor(sizes[own_cluster][:, None] * rng.random(shape) ** 2).astype(np.int64)  # density ~ 1/sqrt(rank)
    inside = members[begins[own_cluster][:, None] + rank]
    anywhere = rng.integers(0, len(cluster), shape)
    items = np.where(rng.random(shape) < 0.9, inside, anywhere)
    return Sessions.from_lists(items.astype(np.int32))
