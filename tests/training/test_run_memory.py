"""Whole trainings with a session memory: phases, resuming, the bundle, and errors."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import UsageError
from mtaw_fast.model.parameters import recent_of
from mtaw_fast.training import TrainedModel, train
from tests.support.training.ring import memory_config, ring_dataset
from tests.support.training.runs import StopsAt, assert_resumed, in_child, same

PHASES = ["slice", "ranker", "search", "slice-refit", "ranker-refit", "refit"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, Path]:
    """A training without an interruption, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return train(ring_dataset(), memory_config(), folder), folder


def test_every_phase_is_in_the_record_and_the_memory_is_of_all_sessions(
    ring: Dataset, whole: tuple[TrainedModel, Path]
) -> None:
    trained, folder = whole
    assert list(dict.fromkeys(record["phase"] for record in trained.history)) == PHASES
    assert trained.best_epoch == 2
    assert trained.model.memory is not None
    assert np.array_equal(trained.model.memory.session_items, ring.train.items)
    assert trained.metrics["MRR@20"] > 80
    assert trained.record()["protocol"].endswith("epochs as set")
    assert [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] == trained.history
    assert (folder / "curves.png").read_bytes()[:4] == b"\x89PNG"
    # On a ring the next item follows from the last click alone, so the clicks before it should fade.
    learned = recent_of(trained.model.weights)
    assert learned.decay < 0.8 * memory_config().model.recent_decay
    assert learned.gain > 0
    assert {path.name for path in folder.iterdir()} == {
        "state.json", "metrics.jsonl", "curves.png", "ranker-refit.safetensors", "checkpoint-refit-2.safetensors",
    }  # fmt: skip


def test_without_a_refit_it_never_sees_the_held_out_sessions(
    ring: Dataset, remembering: Config, tmp_path: Path, whole: tuple[TrainedModel, Path]
) -> None:
    trained = train(ring, remembering, tmp_path, refit=False)
    assert list(dict.fromkeys(record["phase"] for record in trained.history)) == PHASES[:3]
    fitted = ring.train.split_last(remembering.optimizer.validation_fraction)[0]
    assert trained.model.memory is not None
    assert np.array_equal(trained.model.memory.session_items, fitted.items)
    assert trained.metrics == whole[0].metrics


PLACES = [("slice", 2), ("ranker", 2), ("search", 1), ("ranker-refit", 1), ("refit", 2)]


@pytest.mark.parametrize("place", PLACES)
def test_resuming_after_an_interruption_gives_the_same_bits(
    ring: Dataset, remembering: Config, tmp_path: Path, place: tuple[str, int], whole: tuple[TrainedModel, Path]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(ring, remembering, tmp_path, reporter=StopsAt(1, *place))
    assert_resumed(ring, remembering, tmp_path, whole[0])


def test_resuming_after_kill_9_gives_the_same_bits(
    ring: Dataset, remembering: Config, tmp_path: Path, whole: tuple[TrainedModel, Path]
) -> None:
    assert in_child(tmp_path, ("ranker-refit", 1)).returncode == -signal.SIGKILL
    assert_resumed(ring, remembering, tmp_path, whole[0])


def test_without_the_encoder_it_ranks_by_the_memory_alone(ring: Dataset, remembering: Config, tmp_path: Path) -> None:
    config = remembering.replace(dense_candidates=0, epochs=1)
    trained = train(ring, config, tmp_path, refit=False)
    assert trained.metrics["MRR@20"] > 80
    assert [record["phase"] for record in trained.history] == ["ranker"] * 4 + ["search"]
    assert (trained.model.config.ranker.ranker_epochs, trained.model.config.ranker.ranker_lr) == (4, 6e-3)


def test_tables_in_ranges_of_items_give_the_same_bits(
    ring: Dataset,
    remembering: Config,
    whole: tuple[TrainedModel, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / ".tables-left").mkdir()  # by a run that was killed
    trained = train(ring, remembering, tmp_path, table_memory=30_000)
    assert same(trained.model, whole[0].model)
    assert "GB, 3e-05 are allowed: built in" in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in whole[1].iterdir()}
    with pytest.raises(UsageError, match="must be above 0"):
        train(ring, remembering, tmp_path / "never", table_memory=0)
