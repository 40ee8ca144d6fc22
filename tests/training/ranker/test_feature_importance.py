"""Feature importance: by the path that serves, and by brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.training import TrainedModel, train
from mtaw_fast.training.ranker.feature_importance import feature_importance
from mtaw_fast.training.trained_model import served_metrics
from tests.support.training.ring import N_ITEMS, memory_config, ring_dataset


def wanderers(count: int, seed: int) -> Sessions:
    """Sessions around the ring with a random next step: one on, two on, or back to the start."""
    rng, lists = np.random.default_rng(seed), []
    for _ in range(count):
        clicks = [int(rng.integers(N_ITEMS))]
        for step in rng.choice([1, 1, 2, 0], rng.integers(2, 8)).tolist():
            clicks.append((clicks[-1] + step) % N_ITEMS if step else clicks[0])
        lists.append(clicks)
    return Sessions.from_lists(lists)


SAMPLES = Samples.from_sessions(wanderers(30, seed=77), 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    config = memory_config().replace(epochs=1, excluded_features="rec_all")
    data = replace(ring_dataset(), train=wanderers(300, seed=1))
    return train(data, config, tmp_path_factory.mktemp("worth") / "run", refit=False)


def test_the_whole_is_what_serves(trained: TrainedModel) -> None:
    importance = feature_importance(trained.model, SAMPLES, max_samples=10_000)
    assert importance["samples"] == len(SAMPLES)
    served = served_metrics(trained.model, SAMPLES)
    for name, value in importance["metrics"].items():
        assert value == pytest.approx(served[name], abs=100 / len(SAMPLES))  # rounding may change a tie


def test_a_feature_without_a_weight_is_worth_nothing_and_some_are_worth_something(trained: TrainedModel) -> None:
    worth = feature_importance(trained.model, SAMPLES)["features"]
    assert trained.model.ranker_net is not None
    assert set(worth) == set(trained.model.ranker_net.features)
    assert worth["rec_all"] == {"P@20": 0, "MRR@20": 0}
    values = [metrics["MRR@20"] for metrics in worth.values()]
    assert values == sorted(values, reverse=True)
    assert values[0] > 1


def test_it_equals_a_ranker_whose_weights_on_the_feature_are_taken_away(trained: TrainedModel) -> None:
    model = trained.model
    assert model.ranker_net is not None
    importance = feature_importance(model, SAMPLES)
    for name in list(importance["features"])[:3]:
        scale = model.ranker_net.scale.copy()
        scale[model.ranker_net.features.index(name)] = 0  # standardized, the feature is 0: its mean
        without = served_metrics(replace(model, ranker_net=replace(model.ranker_net, scale=scale)), SAMPLES)
        expected = importance["metrics"]["MRR@20"] - without["MRR@20"]
        assert importance["features"][name]["MRR@20"] == pytest.approx(expected, abs=100 / len(SAMPLES))


def test_many_samples_are_spread_evenly(trained: TrainedModel) -> None:
    assert feature_importance(trained.model, SAMPLES, max_samples=7)["samples"] == 7


def test_a_training_keeps_it_with_intervals(trained: TrainedModel) -> None:
    record = trained.record()
    assert record["feature_importance"]["samples"] > 0
    for name, (low, high) in record["validation_intervals"].items():
        assert low <= record["validation"][name] <= high
        assert isinstance(np.float64(low), float)
