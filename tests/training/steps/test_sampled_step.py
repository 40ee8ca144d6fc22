"""Steps over samples of the catalog: Adam's missed steps row by row, and whole trainings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import UnsupportedError, UsageError
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training import train
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.choice import make_stepper
from mtaw_fast.training.steps.full_step import Stepper
from mtaw_fast.training.steps.negative_sampling import CatalogSample
from mtaw_fast.training.steps.sampled_step import SampledStepper
from tests.support.training.ring import N_ITEMS, ring_sessions
from tests.support.training.runs import StopsAt, same


@pytest.mark.parametrize(("clip_norm", "neighbors"), [(0.0, 0), (0.5, 0), (0.5, 2)])
def test_where_all_items_are_drawn_steps_are_those_of_the_full_softmax(clip_norm: float, neighbors: int) -> None:
    config = Config.of(
        embedding_dim=12, dropout=0.0, clip_norm=clip_norm, compute_dtype="float32", warmup_epochs=0, lr=1e-2,
        softmax="sampled", negative_samples=N_ITEMS, cooccurrence_negatives=neighbors,
    )  # fmt: skip
    model = MTAW(config, N_ITEMS).draw_weights(seed=3)
    plain = copy.deepcopy(model)
    sampled, full = SampledStepper(model, config, ring_sessions(50, 1)), Stepper(plain, config)
    for seed in range(6):
        batch = Batch.of(ring_sessions(20, seed=seed), 1, torch.device("cpu"))
        assert sampled.step(batch, 0.5) == pytest.approx(full.step(batch, 0.5), rel=1e-4)
    assert sampled.end_epoch() == pytest.approx(full.end_epoch(), rel=1e-4)
    for (name, got), (_, expected) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=2e-4, msg=name)  # of steps of 1e-2
    assert sampled.moments().keys() == full.moments().keys()


@pytest.mark.parametrize("neighbors", [0, 40])
def test_neighbors_of_the_batch_s_items_are_always_in_the_sum(monkeypatch: pytest.MonkeyPatch, neighbors: int) -> None:
    config = Config.of(embedding_dim=8, softmax="sampled", negative_samples=1, cooccurrence_negatives=neighbors)
    stepper = SampledStepper(MTAW(config, N_ITEMS).draw_weights(seed=0), config, ring_sessions(4000, 2))
    sure_items: list[np.ndarray] = []
    drawn = CatalogSample.drawn

    def spy(sure: np.ndarray, *more: Any) -> CatalogSample:
        sure_items.append(sure)
        return drawn(sure, *more)

    monkeypatch.setattr(CatalogSample, "drawn", spy)
    batch = Batch.of(ring_sessions(2, 1), 1, torch.device("cpu"))
    stepper.step(batch, 0.5)
    batch_items = np.union1d(batch.clicks.numpy(), batch.targets.numpy())
    near = np.concatenate([(batch_items + 1) % N_ITEMS, (batch_items - 1) % N_ITEMS]) if neighbors else batch_items
    assert sure_items[0].tolist() == np.union1d(batch_items, near).tolist()


def test_a_loss_that_is_not_finite_leaves_the_weights_alone() -> None:
    config = Config.of(embedding_dim=8, softmax="sampled", negative_samples=10)
    model = MTAW(config, N_ITEMS).draw_weights(seed=0)
    with torch.no_grad():
        model.item_embedding[7] = float("nan")
    before, stepper = copy.deepcopy(model.state_dict()), SampledStepper(model, config, ring_sessions(50, 1))
    value = stepper.step(Batch.of(ring_sessions(60, seed=1), 1, torch.device("cpu")), progress=1.0)
    assert value != value
    assert stepper.failed_step == 0
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)


def test_it_is_for_the_cpu() -> None:
    config = Config.of(embedding_dim=8, softmax="sampled")
    with pytest.raises(UnsupportedError, match=r"softmax=sampled works on the CPU.*softmax=full"):
        make_stepper(MTAW(config, N_ITEMS).to("meta"), config, ring_sessions(5, 1))


def test_no_graph_is_captured_of_it() -> None:
    config = Config.of(embedding_dim=8, softmax="sampled", train_step="cuda-graph")
    with pytest.raises(
        UsageError, match=r"train_step=cuda-graph does not work with softmax=sampled; choose auto or eager"
    ):
        make_stepper(MTAW(config, N_ITEMS), config, ring_sessions(5, 1))


def sampling(config: Config) -> Config:
    return config.replace(softmax="sampled", negative_samples=8, cooccurrence_negatives=1)


def test_it_learns_the_ring_from_a_sample_of_the_items(ring: Dataset, small: Config, tmp_path: Path) -> None:
    trained = train(ring, sampling(small), tmp_path)
    assert trained.metrics["P@20"] == 100
    assert trained.metrics["MRR@20"] > 80
    assert trained.model.config.loss.softmax == "sampled"


def test_resuming_gives_the_same_bits(ring: Dataset, remembering: Config, tmp_path: Path) -> None:
    config = sampling(remembering)
    whole = train(ring, config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(ring, config, tmp_path / "cut", reporter=StopsAt(1, "refit", 2))
    assert same(train(ring, config, tmp_path / "cut", resume=True).model, whole.model)
