"""Training against a log whose best achievable P@20 is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.baselines import OwnFrequent, Popularity
from mtaw_fast.bundle import Bundle
from mtaw_fast.config import Config
from mtaw_fast.evaluation import evaluate
from mtaw_fast.recommender import Recommender
from mtaw_fast.synthetic import generate, oracle
from mtaw_fast.training import train


@pytest.mark.slow
@pytest.mark.parametrize("init", ["structured", "uniform"])
def test_training_comes_near_the_best_achievable_ranking(tmp_path: Path, init: str) -> None:
    dataset = dataclasses.replace(generate(n_items=400, n_sessions=6000, seed=5), fingerprint="synthetic")
    best = oracle(dataset).best_precision(dataset.test, 20)
    config = Config(d=48, init=init, epochs=8, batch_prefixes=256, lr=4e-3)
    trained = train(dataset, config, tmp_path / "run")
    Bundle.save(
        tmp_path / "bundle",
        config=config,
        weights=trained.weights,
        ids=dataset.ids,
        popularity=np.bincount(dataset.train.items, minlength=dataset.n_items).astype(np.int64),
        metrics={},
        dataset={"name": dataset.name, "fingerprint": dataset.fingerprint},
    )
    reached = evaluate(Recommender.load(tmp_path / "bundle"), dataset.test).metrics["P@20"]
    simple = [
        evaluate(ranker.fit(dataset.train, dataset.n_items), dataset.test).metrics["P@20"]
        for ranker in (Popularity, OwnFrequent)
    ]
    assert reached > max(simple) + 5
    assert 0.8 * best < reached < best + 1.5  # above it only by the luck of the draw
