"""Whole trainings: learning, refit, resume, and errors."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import MissingPackageError, MtawError, TrainingError
from mtaw_fast.items import ItemTable
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training import TrainedModel, train
from mtaw_fast.training.encoder.initial_weights import initialize
from mtaw_fast.training.plan.plan import Plan
from mtaw_fast.training.progress import Silent
from tests.support.training.ring import memory_config, ring_dataset, small_config
from tests.support.training.runs import StopsAt, assert_resumed, same
from tests.support.training.timed import START, shifting_dataset


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


def test_nothing_to_learn_from_is_an_error(ring: Dataset, small: Config, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to learn from"):
        train(replace(ring, min_prefix=50), small, tmp_path)


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
    data = replace(data, train=replace(data.train, times=day))
    with pytest.raises(TrainingError, match=r"has no sample to learn from: .* no later than the sessions before"):
        train(data, remembering.replace(dense_candidates=0), tmp_path / "run")


def test_an_epoch_of_one_step_moves_the_weights(ring: Dataset, small: Config, tmp_path: Path) -> None:
    config = small.replace(batch_prefixes=100_000, epochs=1)
    trained = train(ring, config, tmp_path, refit=False)
    start = MTAW(config, ring.n_items)
    initialize(start, ring.train.split_last(config.optimizer.validation_fraction)[0])
    assert not np.allclose(start.item_embedding.detach().numpy(), trained.model.weights["item_embedding"], atol=1e-4)


RING, TIMED = ring_dataset(), shifting_dataset(60)
ONE_CLICK_EACH = replace(RING, train=Sessions.concatenate([RING.train, Sessions.from_lists([[0]] * 60)]))
BEFORE_1970 = replace(TIMED, train=replace(TIMED.train, times=np.full(TIMED.train.n_clicks, -1)))
SHORTEST_2 = replace(RING, min_prefix=2)
NO_TARGET = r"no validation session has a target after 1 clicks.*validation_fraction=0.1"
REFUSED: dict[str, tuple[Dataset, Config, str]] = {
    "no target": (ONE_CLICK_EACH, small_config(), NO_TARGET),
    "no target, with memory": (ONE_CLICK_EACH, small_config().replace(enabled=True), NO_TARGET),
    "text model": (
        replace(TIMED, items=ItemTable(TIMED.n_items)), memory_config().replace(text_model="no/such/folder"),
        "model2vec",
    ),
    "half-lives": (TIMED, memory_config().replace(half_lives="5m,1m,15m,1h,4h,24h,168h"), "half_lives"),
    "times": (BEFORE_1970, memory_config(), r"data set shifts: a click is from before 1970.*--since"),
    "length": (SHORTEST_2, small_config().replace(max_session_length=1), "max_session_length=1 is below"),
    "length, of a ranker that comes first": (
        SHORTEST_2, memory_config().replace(dense_candidates=0, max_session_length=1), "max_session_length=1 is below",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_before_the_first_phase(case: str, tmp_path: Path) -> None:
    class Refuses(Silent):
        def phase_starts(self, phase: str, number: int, phases: int) -> None:
            pytest.fail(f"phase {phase} has started")

    data, config, message = REFUSED[case]
    with pytest.raises(MtawError, match=message):  # also in a group, which makes no plan
        train(data, config, tmp_path, plan=Plan("full", "as set", ()), reporter=Refuses())
    assert not list(tmp_path.iterdir())
