"""The folder of a run: which one is continued, which is refused; damage, full disks, and files of killed writes."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import DataError, TrainingError, UsageError
from mtaw_fast.items import ItemFrame, ItemTable
from mtaw_fast.storage.files import folder_lock
from mtaw_fast.training import TrainedModel, train
from mtaw_fast.training.checkpoints import RunFolder
from mtaw_fast.training.run_state import RunState
from tests.support.training.runs import StopsAt, in_child, leftovers


def test_a_finished_run_is_returned_and_other_settings_are_refused(
    ring: Dataset, small: Config, tmp_path: Path, whole: TrainedModel
) -> None:
    first = train(ring, small, tmp_path)
    assert first.metrics["MRR@20"] > 80  # chance is 6
    assert [line["phase"] for line in first.history] == ["search"] * 4 + ["refit"] * first.best_epoch
    resumed = train(ring, small, tmp_path, resume=True)
    assert np.array_equal(resumed.model.weights["item_embedding"], whole.model.weights["item_embedding"])
    with pytest.raises(UsageError, match="other settings"):
        train(ring, small.replace(lr=1e-4), tmp_path, resume=True)
    with pytest.raises(UsageError, match="other settings"):
        train(dataclasses.replace(ring, min_prefix=2), small, tmp_path, resume=True)


def test_two_trainings_cannot_share_a_folder(ring: Dataset, small: Config, tmp_path: Path) -> None:
    with folder_lock(tmp_path, UsageError), pytest.raises(UsageError, match="being written by another process"):
        train(ring, small, tmp_path)


def test_a_folder_that_is_no_run_is_left_alone(ring: Dataset, small: Config, tmp_path: Path) -> None:
    (tmp_path / "train-0123.safetensors").write_bytes(b"precious")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"has train-0123\.safetensors, which no training wrote"):
            train(ring, small, tmp_path, overwrite=overwrite)
    assert leftovers(tmp_path) == {"train-0123.safetensors"}


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


def test_a_full_disk_is_one_line_and_leaves_no_half_file(tmp_path: Path) -> None:
    limited = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    )
    process = in_child(tmp_path / "run", ("", 0), limited)
    assert process.returncode == 1
    assert "MtawError: cannot write" in process.stderr
    assert "free some space" in process.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_damaged_or_older_run_is_refused_and_what_a_killed_write_left_is_swept(
    ring: Dataset, small: Config, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(ring, small, tmp_path, reporter=StopsAt(30))
    checkpoint = tmp_path / "checkpoint-search-1.safetensors"
    whole = checkpoint.read_bytes()
    os.truncate(checkpoint, 5000)
    with pytest.raises(DataError, match="not a whole safetensors file"):
        train(ring, small, tmp_path, resume=True)
    checkpoint.write_bytes(whole)
    state = (tmp_path / "state.json").read_text()
    (tmp_path / "state.json").write_text(state.replace('"format_version": 3', '"format_version": 2'))
    with pytest.raises(TrainingError, match="has another format; start over with --overwrite"):
        train(ring, small, tmp_path, resume=True)
    (tmp_path / "state.json").write_text(state)
    (tmp_path / ".checkpoint-search-2.safetensors.abc.tmp").write_bytes(b"half")
    train(ring, small, tmp_path, resume=True)
    assert leftovers(tmp_path) == {"state.json", "metrics.jsonl", "curves.png", "checkpoint-refit-4.safetensors"}
