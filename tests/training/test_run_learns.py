"""Training against a log whose best achievable P@20 is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.synthetic import generate
from mtaw_fast.evaluation import evaluate
from mtaw_fast.evaluation.baselines import OwnFrequent, Popularity
from mtaw_fast.recommender import Recommender
from mtaw_fast.training import train
from tests.support.data.oracle import oracle


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"init": "structured"},
        {"enabled": True, "epochs": 2, "ranker_epochs": 1},
    ],
    ids=["structured", "memory"],
)
def test_training_comes_near_the_best_achievable_ranking(tmp_path: Path, settings: dict[str, Any]) -> None:
    dataset = dataclasses.replace(generate(n_items=200, n_sessions=3000, seed=5), fingerprint="synthetic")
    best = oracle(dataset).best_precision(dataset.test, 20)
    config = Config.of(**{"embedding_dim": 48, "epochs": 8, "batch_prefixes": 256, "lr": 4e-3, **settings})
    train(dataset, config, tmp_path / "run").save(tmp_path / "bundle", dataset)
    reached = evaluate(Recommender.load(tmp_path / "bundle"), dataset.test).metrics["P@20"]
    simple = [
        evaluate(ranker.fit(dataset.train, dataset.n_items), dataset.test).metrics["P@20"]
        for ranker in (Popularity, OwnFrequent)
    ]
    assert reached > max(simple) + 5
    assert 0.8 * best < reached < best + 1.5  # above it only by chance
