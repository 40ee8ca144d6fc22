"""Whole trainings: learning, refit, resume, and errors."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError, MissingPackageError, MtawError, TrainingError, UsageError
from mtaw_fast.items import ItemTable
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training import TrainedModel, train
from mtaw_fast.training.encoder.initial_weights import initialize
from mtaw_fast.training.plan.plan import Plan
from mtaw_fast.training.progress import Silent
from tests.support.training.runs import StopsAt, assert_resumed, same
from tests.support.training.timed import START, shifting_dataset


@pytest.mark.usefixtures("drawn_curves")
def test_it_learns_the_ring_and_leaves_the_record(ring: Dataset, small: Config, tmp_path: Path) -> None:
    trained = train(ring, small, tmp_path / "run")
    assert trained.metrics["MRR@20"] > 80  # chance is 6
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines == trained.history
    assert [line["phase"] for line in lines] == ["search"] * 4 + ["refit"] * trained.best_epoch
    assert lines[3]["loss"] < lines[0]["loss"]
    assert (tmp_path / "run" / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert trained.model.weights["item_embedding"].shape == (ring.n_items, small.model.embedding_dim)


@pytest.mark.parametrize("step", [3, 60, 130], ids=["first epoch", "later in the search", "in the refit"])
def test_resuming_after_an_interruption_gives_the_same_bits(
    ring: Dataset, small: Config, tmp_path: Path, step: int, whole: TrainedModel
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(ring, small, tmp_path / "cut", reporter=StopsAt(step))
    assert_resumed(ring, small, tmp_path / "cut", whole)


def test_shuffled_prefixes_learn_and_resume_to_the_same_bits(ring: Dataset, small: Config, tmp_path: Path) -> None:
    config = small.replace(batches="prefixes", epochs=2)
    whole = train(ring, config, tmp_path / "whole")
    assert whole.metrics["MRR@20"] > 40  # chance is 6
    with pytest.raises(KeyboardInterrupt):
        train(ring, config, tmp_path / "cut", reporter=StopsAt(60))
    resumed = train(ring, config, tmp_path / "cut", resume=True)
    assert same(resumed.model, whole.model)
    assert not same(whole.model, train(ring, config.replace(batches="sessions"), tmp_path / "s").model)


def test_an_unknown_device_is_refused(ring: Dataset, small: Config, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="device 'tpu9'"):
        train(ring, small, tmp_path, device="tpu9")


def test_nothing_to_learn_from_is_an_error(ring: Dataset, small: Config, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to learn from"):
        train(dataclasses.replace(ring, min_prefix=50), small, tmp_path)


@pytest.mark.parametrize("enabled", [False, True], ids=["without memory", "with memory"])
def test_validation_sessions_without_a_sample_are_refused_before_the_first_phase(
    ring: Dataset, small: Config, tmp_path: Path, enabled: bool
) -> None:
    one_click_each = Sessions.from_lists([[0]] * 60)
    dataset = dataclasses.replace(ring, train=Sessions.concatenate([ring.train, one_click_each]))
    with pytest.raises(DataError, match=r"no validation session has a target after 1 clicks.*validation_fraction=0.1"):
        train(dataset, small.replace(enabled=enabled), tmp_path)
    assert not (tmp_path / "state.json").exists()
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"text_model": "no/such/folder"}, "model2vec"), ({"half_lives": "5m,1m,15m,1h,4h,24h,168h"}, "half_lives")],
    ids=["text_model", "half_lives"],
)
def test_a_wrong_setting_is_refused_before_the_first_phase(
    remembering: Config, tmp_path: Path, setting: dict[str, str], message: str
) -> None:
    class Refuses(Silent):
        def phase_starts(self, phase: str, number: int, phases: int) -> None:
            pytest.fail(f"phase {phase} has started")

    data = shifting_dataset(60)
    data = dataclasses.replace(data, items=ItemTable(data.n_items))
    plan = Plan("full", "as set", ())  # as a group, which makes none
    with pytest.raises(MtawError, match=message):
        train(data, remembering.replace(**setting), tmp_path / "run", plan=plan, reporter=Refuses())


def test_clicks_before_1970_are_refused_before_the_first_phase(remembering: Config, tmp_path: Path) -> None:
    data = shifting_dataset(60)
    assert data.train.times is not None
    data = dataclasses.replace(data, train=dataclasses.replace(data.train, times=data.train.times - 10**13))
    with pytest.raises(DataError, match=r"data set shifts: a click is from before 1970.*--since"):
        train(data, remembering, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_matplotlib_the_extra_is_named_before_the_first_phase(
    ring: Dataset, small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match="matplotlib"):
        train(ring, small, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_ranker_whose_clicks_are_no_later_than_those_before_has_no_sample(
    remembering: Config, tmp_path: Path
) -> None:
    """As with dates instead of times, on one day."""
    data = shifting_dataset(60)
    day = np.full(data.train.n_clicks, START)
    data = dataclasses.replace(data, train=dataclasses.replace(data.train, times=day))
    with pytest.raises(TrainingError, match=r"has no sample to learn from: .* no later than the sessions before"):
        train(data, remembering.replace(dense_candidates=0), tmp_path / "run")


def test_the_error_of_a_gamma_beyond_float32_names_it(ring: Dataset, small: Config, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss is inf in search epoch 1, step 1 .*gamma"):
        train(ring, small.replace(gamma=200.0), tmp_path / "run")


def test_an_epoch_of_one_step_moves_the_weights(ring: Dataset, small: Config, tmp_path: Path) -> None:
    config = small.replace(batch_prefixes=100_000, epochs=1)
    trained = train(ring, config, tmp_path, refit=False)
    start = MTAW(config, ring.n_items)
    initialize(start, ring.train.split_last(config.optimizer.validation_fraction)[0])
    assert not np.allclose(start.item_embedding.detach().numpy(), trained.model.weights["item_embedding"], atol=1e-4)


def test_max_len_below_min_prefix_is_refused(ring: Dataset, small: Config, remembering: Config, tmp_path: Path) -> None:
    """Before the ranker, which comes first without the encoder's candidates."""
    for config in (small, remembering.replace(dense_candidates=0)):
        with pytest.raises(UsageError, match="max_session_length=1 is below"):
            train(dataclasses.replace(ring, min_prefix=2), config.replace(max_session_length=1), tmp_path)
        assert not list(tmp_path.iterdir())
