"""The state of a run: which folders are continued, and which are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import UsageError
from mtaw_fast.items import ItemFrame, ItemTable
from mtaw_fast.storage.files import folder_lock
from mtaw_fast.training import TrainedModel, train
from mtaw_fast.training.checkpoints import RunFolder
from mtaw_fast.training.run_state import RunState
from tests.support.training.runs import leftovers


def test_a_finished_run_is_returned_and_other_settings_are_refused(
    ring: Dataset, small: Config, tmp_path: Path, whole: TrainedModel
) -> None:
    train(ring, small, tmp_path)
    resumed = train(ring, small, tmp_path, resume=True)
    assert np.array_equal(resumed.model.weights["item_embedding"], whole.model.weights["item_embedding"])
    with pytest.raises(UsageError, match="other settings"):
        train(ring, small.replace(lr=1e-4), tmp_path, resume=True)


def test_two_trainings_cannot_share_a_folder(ring: Dataset, small: Config, tmp_path: Path) -> None:
    with folder_lock(tmp_path, UsageError), pytest.raises(UsageError, match="being written by another process"):
        train(ring, small, tmp_path)


def test_a_folder_that_is_no_run_is_left_alone(ring: Dataset, small: Config, tmp_path: Path) -> None:
    (tmp_path / "train-0123.safetensors").write_bytes(b"precious")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"has train-0123\.safetensors, which no training wrote"):
            train(ring, small, tmp_path, overwrite=overwrite)
    assert leftovers(tmp_path) == {"train-0123.safetensors"}


def test_a_run_of_another_min_prefix_is_not_resumed(ring: Dataset, small: Config, tmp_path: Path) -> None:
    train(ring, small, tmp_path)
    with pytest.raises(UsageError, match="other settings"):
        train(dataclasses.replace(ring, min_prefix=2), small, tmp_path, resume=True)


def test_a_run_with_another_item_table_is_not_resumed(ring: Dataset, small: Config, tmp_path: Path) -> None:
    """The files of clicks and ids are the same, so the fingerprint is."""
    n = ring.n_items

    def with_table(brand: str, made: int = 1) -> Dataset:
        frame = ItemFrame.of({"id": list(range(n)), "brand": [brand] * n})
        return dataclasses.replace(ring, items=ItemTable(n, made=made).replaced(frame, np.arange(n), n))

    train(with_table("a"), small, tmp_path)
    for other in (with_table("b"), ring):
        with pytest.raises(UsageError, match="other settings or data"):
            train(other, small, tmp_path, resume=True)
    train(with_table("a", made=2), small, tmp_path, resume=True)  # the same table, prepared again


def test_each_phase_has_its_processor_time_without_that_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 5.0, 7.0, 10.0, 14.0, 100.0, 101.0])
    monkeypatch.setattr("mtaw_fast.training.run_state.time.process_time", lambda: next(now))
    state = RunState(RunFolder(tmp_path), {}, "search")  # at 0
    state.open(resume=False, overwrite=False)
    state.set_plan({})  # at 5
    state.save(epoch=1)  # 7
    state.next_phase("refit", {})  # 10
    state.next_phase("done", {})  # 14
    assert state["processor_seconds"] == {"search": 5.0, "refit": 4.0}
    reopened = RunState(RunFolder(tmp_path), {}, "search")  # 100, in another process
    reopened.open(resume=True, overwrite=False)
    reopened.save()
    assert reopened["processor_seconds"] == {"search": 5.0, "refit": 4.0, "done": 1.0}
