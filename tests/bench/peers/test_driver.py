"""The shared driver: its samples are ours, an interrupted training continues unchanged, and it ends in time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.peers.files import validation_of, write_job
from mtaw_fast.data.sessions import Samples
from mtaw_fast.evaluation.metrics import pessimistic_rank
from tests.support.training.ring import ring_dataset

pytest.importorskip("torch", reason="the drivers need PyTorch")

from tests.support.bench import tiny_driver
from tests.support.bench.tiny_driver import Job, driver

SETTINGS = {"epochs": 3, "patience": 3, "seed": 0, "max_len": 5, "batch": 64, "lr": 0.05}


def job_of(folder: Path, **changes: Any) -> Job:
    write_job(folder, {**SETTINGS, **changes}, ring_dataset(), 0.1)
    return Job.load(folder)


def trained(job: Job, seconds: float) -> Mapping[str, Any]:
    driver.torch.manual_seed(job.settings["seed"])
    driver.Training(job, tiny_driver.build(job)).run(seconds)
    return json.loads((job.folder / "state.json").read_text())


def test_a_driver_trains_on_the_samples_that_we_train_on(tmp_path: Path) -> None:
    dataset = ring_dataset()
    job = job_of(tmp_path)
    theirs = job.train_samples()
    ours = Samples.from_sessions(validation_of(dataset, 0.1)[0], dataset.min_prefix)
    assert theirs.targets.tolist() == ours.targets.tolist()
    lists = theirs.lists(np.arange(len(theirs)))
    assert lists == [(clicks[-5:] + 1).tolist() for clicks in ours.prefixes]
    ids, lengths, targets = theirs.padded(np.arange(7))
    assert ids.shape == (7, int(lengths.max()))
    assert [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)] == lists[:7]
    assert all(not row[length:].any() for row, length in zip(ids, lengths, strict=True))
    assert targets.tolist() == (ours.targets[:7] + 1).tolist()


def test_test_targets_stay_with_us(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    assert set(job.data) == {
        "train_items", "train_offsets", "valid_items", "valid_offsets", "valid_targets", "test_items", "test_offsets",
    }  # fmt: skip
    assert not job.prefixes("test").targets.any()


def test_a_cut_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = trained(job_of(tmp_path / "whole"), 600)
    cut = job_of(tmp_path / "cut")
    for step in range(1, 4):  # each run has time for one step
        state = trained(cut, 0)
        assert state["step"] == step
        assert state["history"][-1]["epoch"] == pytest.approx(step / state["steps_per_epoch"], abs=1e-3)
        assert state["ended"] is None
    state = trained(cut, 600)
    epochs = [
        [(record["epoch"], record["P@20"], record["MRR@20"]) for record in run["history"] if record["epoch"] % 1 == 0]
        for run in (state, whole)
    ]
    assert epochs[0] == epochs[1]
    assert len(epochs[0]) == 3
    assert whole["ended"] == state["ended"] == "epochs"
    for name in ("checkpoint.npz", "best.npz"):
        with np.load(tmp_path / "whole" / name) as first, np.load(tmp_path / "cut" / name) as second:
            assert first.files == second.files
            assert all((first[key] == second[key]).all() for key in first.files if key != "state")
    assert trained(cut, 600)["step"] == state["step"]  # nothing is left to do


def test_drivers_rank_as_we_do() -> None:
    scores = np.random.default_rng(0).integers(0, 5, (200, 12)).astype(np.float32)
    scores[::7, 3] = np.nan
    scores[::5, 4] = -np.inf
    targets = np.random.default_rng(1).integers(0, 12, 200)
    assert driver.pessimistic_rank(scores, targets).tolist() == pessimistic_rank(scores, targets).tolist()
