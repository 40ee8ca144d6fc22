"""Whole trainings: learning, early stopping, refit, resume, and errors."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtaw_fast.config import Config
from mtaw_fast.config.former_names import to_former
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import TrainingError, UsageError
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.storage.files import folder_lock
from mtaw_fast.training import TrainedModel, train
from mtaw_fast.training.encoder import runner
from mtaw_fast.training.encoder.initial_weights import initialize
from mtaw_fast.training.reporting import Silent
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.full_step import Stepper
from tests.support.training.ring import ring_dataset, small_config


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A training without an interruption."""
    return train(ring_dataset(), small_config(), tmp_path_factory.mktemp("whole"))


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_it_learns_the_ring_and_leaves_the_record(ring: Dataset, small: Config, tmp_path: Path) -> None:
    trained = train(ring, small, tmp_path / "run")
    assert trained.metrics["MRR@20"] > 80  # chance is 6
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines == trained.history
    assert [line["phase"] for line in lines] == ["search"] * 4 + ["refit"] * trained.best_epoch
    assert lines[3]["loss"] < lines[0]["loss"]
    assert (tmp_path / "run" / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert trained.model.weights["item_embedding"].shape == (ring.n_items, small.model.embedding_dim)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(ring: Dataset, small: Config, tmp_path: Path) -> None:
    a, b = (train(ring, small, tmp_path / name).model.weights for name in "ab")
    c = train(ring, small.replace(seed=1), tmp_path / "c").model.weights
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["item_embedding"], c["item_embedding"])


@pytest.mark.parametrize("refit", [True, False])
def test_early_stopping_keeps_the_best_epoch(
    ring: Dataset, small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refit: bool
) -> None:
    scores = iter([10.0, 30.0, 20.0, 20.0, 99.0])
    seen: list[np.ndarray] = []

    def fake(model: torch.nn.Module, **_: Any) -> dict[str, float]:
        seen.append(model.item_embedding.detach().numpy().copy())
        return {"P@20": 50.0, "MRR@20": next(scores)}

    monkeypatch.setattr(runner, "validation_metrics", fake)
    config = small.replace(epochs=9, patience=2)
    trained = train(ring, config, tmp_path, refit=refit)
    assert trained.best_epoch == 2
    assert len(seen) == 4
    phases = [record["phase"] for record in trained.history]
    assert phases == ["search"] * 4 + (["refit"] * 2 if refit else [])
    assert np.array_equal(trained.model.weights["item_embedding"], seen[1]) is not refit


CHILD = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from tests.support.training.ring import ring_dataset, small_config
    from mtaw_fast.training import TrainedModel, train
    from mtaw_fast.training.reporting import Silent

    class Killer(Silent):
        steps = 0
        def step_done(self, sessions, loss):
            self.steps += 1
            if self.steps == {kill_at}:
                os.kill(os.getpid(), signal.SIGKILL)

    train(ring_dataset(), small_config(), Path({folder!r}), reporter=Killer())
    """
)


@pytest.mark.parametrize("kill_at", [3, 60, 130], ids=["first epoch", "later in the search", "in the refit"])
def test_resuming_after_kill_9_gives_the_same_bits(
    ring: Dataset, small: Config, tmp_path: Path, kill_at: int, whole: TrainedModel
) -> None:
    root = str(Path(__file__).parents[2])
    child = CHILD.format(root=root, kill_at=kill_at, folder=str(tmp_path / "killed"))
    done = subprocess.run([sys.executable, "-c", child], check=False, cwd=root)
    assert done.returncode == -signal.SIGKILL
    if (tmp_path / "killed" / "state.json").exists():
        with pytest.raises(UsageError, match=r"unfinished training.*--resume"):
            train(ring, small, tmp_path / "killed")
    resumed = train(ring, small, tmp_path / "killed", resume=True)
    assert all(np.array_equal(whole.model.weights[name], resumed.model.weights[name]) for name in whole.model.weights)
    strip = {"seconds", "sessions_per_second"}
    assert [{k: v for k, v in r.items() if k not in strip} for r in resumed.history] == [
        {k: v for k, v in r.items() if k not in strip} for r in whole.history
    ]


def test_a_finished_run_is_returned_and_other_settings_are_refused(
    ring: Dataset, small: Config, tmp_path: Path, whole: TrainedModel
) -> None:
    train(ring, small, tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    state["identity"]["config"] = to_former(small.settings())  # as an earlier release wrote it
    for text in (None, json.dumps(state)):
        if text is not None:
            (tmp_path / "state.json").write_text(text)
        again = train(ring, small, tmp_path, resume=True)
        assert np.array_equal(again.model.weights["item_embedding"], whole.model.weights["item_embedding"])
        with pytest.raises(UsageError, match="other settings"):
            train(ring, small.replace(lr=1e-4), tmp_path, resume=True)


class FailsAt:
    """Turns the loss into `value` from one step on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int, value: float) -> None:
        self.calls = 0
        original = Stepper._loss

        def faulty(stepper: Stepper, clicked: torch.Tensor, batch: Any) -> torch.Tensor:
            self.calls += 1
            return original(stepper, clicked, batch) * (value if self.calls >= step else 1.0)

        monkeypatch.setattr(Stepper, "_loss", faulty)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_loss_stops_with_its_place_and_keeps_the_last_epoch(
    ring: Dataset, small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    steps: list[str] = []

    class Counter(Silent):
        def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None:
            steps.append("epoch")

        def step_done(self, sessions: int, loss: float) -> None:
            steps.append("step")

    FailsAt(monkeypatch, 30, value)
    with pytest.raises(TrainingError, match=rf"the loss is {value} in search epoch 2, step \d+ of \d+ \(sessions \d+"):
        train(ring, small, tmp_path, reporter=Counter())
    assert steps.count("epoch") == 2
    assert {"checkpoint-search-1.safetensors", "best-1.safetensors", "state.json"} <= leftovers(tmp_path)
    monkeypatch.undo()
    assert train(ring, small, tmp_path, resume=True).metrics["MRR@20"] > 80


def test_the_step_itself_reports_nan_without_touching_the_weights(ring: Dataset, small: Config) -> None:
    model = MTAW(small, ring.n_items).draw_weights(0)
    with torch.no_grad():
        model.position_embedding[0] = torch.nan
    before = model.item_embedding.detach().clone()
    stepper = Stepper(model, small)
    batch = Batch.of(ring.train.slice(0, 4), 1, torch.device("cpu"))
    assert np.isnan(stepper.step(batch, 0.5))
    assert torch.equal(before, model.item_embedding)


def test_two_trainings_cannot_share_a_folder(ring: Dataset, small: Config, tmp_path: Path) -> None:
    with folder_lock(tmp_path, UsageError), pytest.raises(UsageError, match="being written by another process"):
        train(ring, small, tmp_path)


def test_a_full_disk_is_one_line_and_leaves_no_half_file(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    child = CHILD.format(root=root, kill_at=-1, folder=str(tmp_path / "run"))
    limited = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n" + child
    )
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 1
    assert "MtawError: cannot write" in done.stderr
    assert "free some space" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_an_unknown_device_is_refused(ring: Dataset, small: Config, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="device 'tpu9'"):
        train(ring, small, tmp_path, device="tpu9")


def test_nothing_to_learn_from_is_an_error(ring: Dataset, small: Config, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to learn from"):
        train(dataclasses.replace(ring, min_prefix=50), small, tmp_path)


def test_a_damaged_checkpoint_is_refused(ring: Dataset, small: Config, tmp_path: Path, monkeypatch: Any) -> None:
    FailsAt(monkeypatch, 30, float("nan"))
    with pytest.raises(TrainingError):
        train(ring, small, tmp_path)
    monkeypatch.undo()
    os.truncate(tmp_path / "checkpoint-search-1.safetensors", 5000)
    with pytest.raises(Exception, match="not a whole safetensors file"):
        train(ring, small, tmp_path, resume=True)


def test_the_reporter_receives_everything(ring: Dataset, small: Config, tmp_path: Path) -> None:
    received: list[tuple[str, Any]] = []

    class Listener:
        def phase_starts(self, phase: str, number: int, phases: int) -> None:
            received.append(("phase", (phase, number, phases)))

        def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None:
            received.append(("starts", sessions))

        def step_done(self, sessions: int, loss: float) -> None:
            received.append(("step", sessions))

        def epoch_ends(self, record: Mapping[str, Any]) -> None:
            received.append(("ends", record["epoch"]))

    train(ring, small.replace(epochs=1), tmp_path, refit=False, reporter=Listener())
    assert received[:2] == [("phase", ("search", 1, 1)), ("starts", 270)]
    assert received[-1] == ("ends", 1)
    assert sum(count for what, count in received if what == "step") == 270


def test_a_folder_that_is_no_run_is_left_alone(ring: Dataset, small: Config, tmp_path: Path) -> None:
    (tmp_path / "train-0123.safetensors").write_bytes(b"precious")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"has train-0123\.safetensors, which no training wrote"):
            train(ring, small, tmp_path, overwrite=overwrite)
    assert leftovers(tmp_path) == {"train-0123.safetensors"}


def test_what_a_killed_write_left_is_swept_on_resume(
    ring: Dataset, small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FailsAt(monkeypatch, 30, float("nan"))
    with pytest.raises(TrainingError):
        train(ring, small, tmp_path)
    monkeypatch.undo()
    (tmp_path / ".checkpoint-search-2.safetensors.abc.tmp").write_bytes(b"half")
    train(ring, small, tmp_path, resume=True)
    assert leftovers(tmp_path) == {"state.json", "metrics.jsonl", "curves.png", "checkpoint-refit-4.safetensors"}


def test_an_epoch_of_one_step_moves_the_weights(ring: Dataset, small: Config, tmp_path: Path) -> None:
    config = small.replace(batch_prefixes=100_000, epochs=1)
    trained = train(ring, config, tmp_path, refit=False)
    start = MTAW(config, ring.n_items)
    initialize(start, ring.train.split_last(config.optimizer.validation_fraction)[0])
    assert not np.allclose(start.item_embedding.detach().numpy(), trained.model.weights["item_embedding"], atol=1e-4)


def test_a_run_of_another_min_prefix_is_not_resumed(ring: Dataset, small: Config, tmp_path: Path) -> None:
    train(ring, small, tmp_path)
    with pytest.raises(UsageError, match="other settings"):
        train(dataclasses.replace(ring, min_prefix=2), small, tmp_path, resume=True)


def test_max_len_below_min_prefix_is_refused(ring: Dataset, small: Config, tmp_path: Path) -> None:
    config = small.replace(max_session_length=1)
    with pytest.raises(UsageError, match="max_session_length=1 is below"):
        train(dataclasses.replace(ring, min_prefix=2), config, tmp_path)
