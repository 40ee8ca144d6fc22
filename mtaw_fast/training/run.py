"""A whole training: search for the best epoch on held-out sessions, then refit on all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mtaw_fast.batching import epoch_batches
from mtaw_fast.config import Config
from mtaw_fast.dataset import Dataset
from mtaw_fast.errors import TrainingError, UsageError
from mtaw_fast.files import folder_lock
from mtaw_fast.model import MTAW
from mtaw_fast.sessions import Sessions
from mtaw_fast.training.batch import Batch
from mtaw_fast.training.checkpoints import RunFolder
from mtaw_fast.training.choose import make_stepper
from mtaw_fast.training.curves import plot_curves
from mtaw_fast.training.initial import initialise
from mtaw_fast.training.outcome import TrainedModel
from mtaw_fast.training.step import AnyStepper, learning_rate
from mtaw_fast.training.validation import validation_metrics

_BEST_BY = "MRR@20"
_SESSIONS_NAMED = 5


class Reporter(Protocol):
    """Told of progress; all methods are called from the training thread."""

    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None: ...
    def step_done(self, sessions: int, loss: float) -> None: ...
    def epoch_ends(self, record: Mapping[str, Any]) -> None: ...


class Silent:
    """A reporter that says nothing."""

    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None: ...
    def step_done(self, sessions: int, loss: float) -> None: ...
    def epoch_ends(self, record: Mapping[str, Any]) -> None: ...


def train(
    dataset: Dataset,
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    refit: bool = True,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> TrainedModel:
    """Train MTAW on `dataset`, keeping state and checkpoints in the run folder `folder`.

    The last `config.validation` of the sessions choose the epoch; with `refit` a new model is then
    trained on all sessions for that many epochs under the same schedule. With `resume` a run that was cut
    off goes on after its last whole epoch, with the same bits on a CPU as if it had not been.

    Raises UsageError where the folder holds another run, TrainingError on a non-finite loss.
    """
    chosen_device = _device(device)
    with folder_lock(folder, UsageError):
        run = _Run(dataset, config, RunFolder(folder), refit, chosen_device, reporter or Silent())
        run.open(resume, overwrite)
        return run.finish()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.split(":")[0] not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} cannot be used; choose auto, cpu or cuda")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # Triton launches on the current one
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used ({str(error).splitlines()[0]}); try --device cpu") from None
    return device


class _Run:
    def __init__(
        self,
        dataset: Dataset,
        config: Config,
        files: RunFolder,
        refit: bool,
        device: torch.device,
        reporter: Reporter,
    ) -> None:
        self._dataset, self._config, self._files = dataset, config, files
        self._refit, self._device, self._reporter = refit, device, reporter
        self._identity = {
            "config": config.as_dict(),
            "dataset": dataset.fingerprint,
            "min_prefix": dataset.min_prefix,
            "refit": refit,
        }
        self._state: dict[str, Any] = {}
        self._counted = time.perf_counter()  # until when the state's seconds are counted

    def open(self, resume: bool, overwrite: bool) -> None:
        """Begin a new run or take up the one that is in the folder."""
        state = self._files.load_state() if resume or not overwrite else None
        unfinished = state is not None and state["phase"] != "done"
        if resume and state is not None:
            if state["identity"] != self._identity:
                raise UsageError(
                    f"{self._files.folder} holds a training with other settings or data; "
                    "repeat its settings to resume it, or start anew with --overwrite"
                )
            self._state = state
            self._files.sweep(state)
            return
        if unfinished and not overwrite:
            raise UsageError(
                f"{self._files.folder} holds an unfinished training; continue it with --resume "
                "or start anew with --overwrite"
            )
        self._files.clear()
        self._state = {
            "identity": self._identity,
            "phase": "search",
            "epoch": 0,
            "best_epoch": 0,
            "best": None,
            "checkpoint": None,
            "best_checkpoint": None,
            "history": [],
            "seconds": 0.0,
        }

    def finish(self) -> TrainedModel:
        """Run every phase that is left."""
        fitted, held_out = self._dataset.train.split_last(self._config.validation)
        if self._state["phase"] == "search":
            self._search(fitted, held_out)
        if self._state["phase"] == "refit":
            self._fit_phase("refit", self._dataset.train, self._state["best_epoch"], None)
            self._state |= {"phase": "done", "best_checkpoint": self._state["checkpoint"], "checkpoint": None}
            self._save()
        model = MTAW(self._config, self._dataset.n_items)
        self._files.load_checkpoint(self._state["best_checkpoint"], model, None)
        return TrainedModel(
            config=self._config,
            weights={name: value.detach().cpu().numpy() for name, value in model.named_parameters()},
            metrics=self._state["best"],
            history=self._state["history"],
            best_epoch=self._state["best_epoch"],
            refit=self._refit,
            seconds=self._state["seconds"],
        )

    def _save(self) -> None:
        now = time.perf_counter()
        self._state["seconds"] += now - self._counted
        self._counted = now
        self._files.save(self._state)

    def _search(self, fitted: Sessions, held_out: Sessions) -> None:
        self._fit_phase("search", fitted, self._config.epochs, held_out)
        phase = "refit" if self._refit else "done"
        kept = {"best_checkpoint": None} if self._refit else {}
        self._state |= {"phase": phase, "epoch": 0, "checkpoint": None, **kept}
        self._save()

    def _fit_phase(self, phase: str, sessions: Sessions, epochs: int, held_out: Sessions | None) -> None:
        model = MTAW(self._config, self._dataset.n_items).to(self._device)
        stepper = make_stepper(model, self._config)
        if self._state["checkpoint"] is None:
            initialise(model, sessions)
        else:
            self._files.load_checkpoint(self._state["checkpoint"], model, stepper)
        usable = _trainable(sessions, self._dataset.min_prefix, self._config.max_len)
        judged = None if held_out is None else held_out.keep_last(self._config.max_len + 1)
        while self._state["epoch"] < epochs and not self._stopped_early(phase):
            epoch = self._state["epoch"] + 1
            record = self._epoch(phase, epoch, epochs, stepper, usable)
            if judged is not None:
                record |= validation_metrics(model, judged, self._dataset.min_prefix)
            self._close_epoch(phase, epoch, record, stepper)
            self._reporter.epoch_ends(record)

    def _stopped_early(self, phase: str) -> bool:
        waited = self._state["epoch"] - self._state["best_epoch"]
        return phase == "search" and 0 < self._config.patience <= waited

    def _epoch(self, phase: str, epoch: int, epochs: int, stepper: AnyStepper, sessions: Sessions) -> dict[str, Any]:
        config = self._config
        # A state that depends on the epoch alone: a resumed run draws the same dropout.
        torch.manual_seed(int(np.random.SeedSequence([config.seed, epoch]).generate_state(1)[0]))
        stepper.model.train()
        samples = sessions.lengths - self._dataset.min_prefix
        batches = epoch_batches(samples, config.batch_prefixes, config.seed, epoch)
        self._reporter.epoch_starts(phase, epoch, epochs, len(sessions))
        began, loss = time.perf_counter(), 0.0
        # A warm-up shorter than a step would only make that step one of learning rate 0.
        skipped = config.warmup_epochs if config.warmup_epochs * len(batches) < 1 else 0.0
        for step, numbers in enumerate(batches):
            batch = Batch.of(sessions.select(numbers), self._dataset.min_prefix, stepper.input_device)
            loss = stepper.step(batch, max(epoch - 1 + step / len(batches), skipped))
            if not math.isfinite(loss):
                break
            self._reporter.step_done(len(numbers), loss)
        mean = stepper.end_epoch()
        if stepper.failed_step is not None:
            failed = stepper.failed_step
            named = ", ".join(map(str, batches[failed][:_SESSIONS_NAMED]))
            raise TrainingError(
                f"the loss is {mean} in {phase} epoch {epoch}, step {failed + 1} of {len(batches)} (sessions "
                f"{named}, .. of those that hold a sample); the last whole epoch is kept: lower lr or scale and "
                "start anew with --overwrite"
            )
        seconds = time.perf_counter() - began
        return {
            "phase": phase,
            "epoch": epoch,
            "loss": mean,
            "lr": learning_rate(config, epoch),
            "seconds": round(seconds, 3),
            "sessions_per_second": round(len(sessions) / seconds, 1),
        }

    def _close_epoch(self, phase: str, epoch: int, record: dict[str, Any], stepper: AnyStepper) -> None:
        state = self._state
        checkpoint = f"checkpoint-{phase}-{epoch}.safetensors"
        self._files.save_checkpoint(checkpoint, stepper.model, stepper)
        state |= {"epoch": epoch, "checkpoint": checkpoint, "history": [*state["history"], record]}
        if phase == "search" and (state["best"] is None or record[_BEST_BY] > state["best"][_BEST_BY]):
            best = f"best-{epoch}.safetensors"
            self._files.save_checkpoint(best, stepper.model, None)
            metrics = {name: value for name, value in record.items() if "@" in name}
            state |= {"best_epoch": epoch, "best": metrics, "best_checkpoint": best}
        self._save()
        plot_curves(state["history"], self._files.folder / "curves.png")


def _trainable(sessions: Sessions, min_prefix: int, max_len: int) -> Sessions:
    """Sessions that hold a sample, cut to their last max_len clicks and the target after them.

    Of a longer session the prefixes before that window are no samples: one pass can attend to one window.
    """
    if max_len < min_prefix:
        raise UsageError(f"setting max_len={max_len} is below the data set's shortest prefix, {min_prefix}; raise it")
    usable = sessions.select(np.flatnonzero(sessions.lengths > min_prefix)).keep_last(max_len + 1)
    if len(usable) == 0:
        raise TrainingError(
            f"no training session has more than {min_prefix} clicks, so there is nothing to learn from; "
            "prepare the data set with a smaller min_prefix or longer sessions"
        )
    return usable
