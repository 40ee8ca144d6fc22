"""Feature importance: by the path that serves, and by brute force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.training import train
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


def test_a_feature_is_worth_what_a_ranker_loses_without_its_weights(tmp_path: Path) -> None:
    samples = Samples.from_sessions(wanderers(30, seed=77), 1)
    rounded = 100 / len(samples)  # a changed tie
    config = memory_config().replace(epochs=1, excluded_features="rec_all")
    trained = train(replace(ring_dataset(), train=wanderers(300, seed=1)), config, tmp_path, refit=False)
    model: Any = trained.model
    importance = feature_importance(model, samples)
    assert importance["samples"] == len(samples)
    assert importance["metrics"] == pytest.approx(served_metrics(model, samples), abs=rounded)
    worth = {name: metrics["MRR@20"] for name, metrics in importance["features"].items()}
    assert set(worth) == set(model.ranker_net.features)
    assert list(worth.values()) == sorted(worth.values(), reverse=True)
    assert max(worth.values()) > 1
    assert worth["rec_all"] == 0
    for name in list(worth)[:3]:
        scale = model.ranker_net.scale.copy()
        scale[model.ranker_net.features.index(name)] = 0  # standardized, the feature is 0: its mean
        without = served_metrics(replace(model, ranker_net=replace(model.ranker_net, scale=scale)), samples)
        assert worth[name] == pytest.approx(importance["metrics"]["MRR@20"] - without["MRR@20"], abs=rounded)

    assert feature_importance(model, samples, max_samples=7)["samples"] == 7
    record = trained.record()
    assert record["feature_importance"]["samples"] > 0
    for name, (low, high) in record["validation_intervals"].items():
        assert low <= record["validation"][name] <= high
