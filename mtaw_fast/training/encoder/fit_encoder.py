"""Fit the MTAW encoder to sessions, epoch by epoch, with a checkpoint after each that a later run continues from."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import TrainingError
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.encoder.prefetch import made_ahead
from mtaw_fast.training.encoder.runner import FitRequest, Runner, Validate
from mtaw_fast.training.progress import LossCurve, Reporter
from mtaw_fast.training.run_state import RunState
from mtaw_fast.training.steps.batch import EpochBatches, nothing_to_learn, sample_counts
from mtaw_fast.training.steps.full_step import AnyStepper, learning_rate
from mtaw_fast.training.threads import current_threads, training_threads

BEST_BY = "MRR@20"
_SESSIONS_NAMED = 5


@dataclass(frozen=True, slots=True)
class Fitting:
    """Fits one model after the other, under the settings and the state of one run.

    n_items, min_prefix: of the data set. runner: where the model lives. state: of the run; it names the checkpoints.
    type_weights: float32[K], the weight of a sample by the type of its target. Without it all samples weigh the same.
    """

    config: Config
    n_items: int
    min_prefix: int
    runner: Runner
    state: RunState
    reporter: Reporter
    type_weights: np.ndarray | None = None

    def fit(
        self,
        phase: str,
        sessions: Sessions,
        epochs: int,
        validate: Validate | None = None,
        patience: int = 0,
        start: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Train a new model on `sessions` until the state's checkpoint has seen `epochs` of them.

        phase: name in the records and file names. validate: measures the model after an epoch; the epoch with the
        highest MRR@20 becomes the state's best one. patience: epochs without a better MRR@20 before the training stops;
        0 never stops. start: weights to start from, under the bundle's names; the initial weights by default.
        Raises TrainingError on a loss that is not finite.
        """
        with training_threads(current_threads()):
            state = self.state
            stepper = self.runner.begin(
                FitRequest(self.config, self.n_items, state, phase, sessions, epochs, validate, patience, start)
            )
            usable = self._trainable(sessions)
            while state["epoch"] < epochs and not 0 < patience <= state["epoch"] - state["best_epoch"]:
                epoch = state["epoch"] + 1
                record = self._epoch(phase, epoch, epochs, stepper, usable)
                if validate is not None:
                    record |= validate(stepper.model)
                self._save(phase, epoch, record, stepper, validate is not None)
                self.reporter.epoch_ends(record)

    def _epoch(self, phase: str, epoch: int, epochs: int, stepper: AnyStepper, sessions: Sessions) -> dict[str, Any]:
        config = self.config
        # A state that depends on the epoch alone: a resumed run draws the same dropout.
        torch.manual_seed(int(np.random.SeedSequence([config.optimizer.seed, epoch]).generate_state(1)[0]))
        stepper.model.train()
        source = EpochBatches(config, sessions, self.min_prefix, self.type_weights)
        batches = source.cut(epoch)
        self.reporter.epoch_starts(phase, epoch, epochs, source.units)
        began, loss, curve = time.perf_counter(), 0.0, LossCurve(source.units)
        # A warm-up shorter than a step would only give that step a learning rate of 0.
        skipped = config.optimizer.warmup_epochs if config.optimizer.warmup_epochs * len(batches) < 1 else 0.0

        def staged_batch(numbers: np.ndarray) -> Any:
            return stepper.stage(source.batch(numbers, stepper.input_device))

        for step, (numbers, batch) in enumerate(made_ahead(staged_batch, batches, stepper.ahead)):
            loss = stepper.step(batch, max(epoch - 1 + step / len(batches), skipped))
            if not math.isfinite(loss):
                break
            curve.add(len(numbers), loss)
            self.reporter.step_done(len(numbers), loss)
        mean = stepper.end_epoch()
        if stepper.failed_step is not None:
            failed_step = stepper.failed_step
            names = ", ".join(map(str, source.sessions_of(batches[failed_step])[:_SESSIONS_NAMED]))
            raise TrainingError(
                f"the loss is {mean} in {phase} epoch {epoch}, step {failed_step + 1} of {len(batches)} (sessions "
                f"{names}, .. of those that have a sample); the last whole epoch is kept: lower lr, scale or gamma and "
                "start over with --overwrite"
            )
        seconds, threads = time.perf_counter() - began, current_threads()
        return {
            "phase": phase,
            "epoch": epoch,
            "loss": mean,
            "losses": curve.losses(),
            "lr": learning_rate(config, epoch),
            "seconds": round(seconds, 3),
            "sessions_per_second": round(len(sessions) / seconds, 1),
            "threads": threads.pieces,
            "encoder_threads": threads.encoder,
        }

    def _save(self, phase: str, epoch: int, record: dict[str, Any], stepper: AnyStepper, validated: bool) -> None:
        state = self.state
        checkpoint = f"checkpoint-{phase}-{epoch}.safetensors"
        self.runner.save(state, checkpoint, stepper, moments=True)
        changes: dict[str, Any] = {}
        if validated and (state["best"] is None or record[BEST_BY] > state["best"][BEST_BY]):
            best_name = f"best-{epoch}.safetensors"
            self.runner.save(state, best_name, stepper, moments=False)
            metrics = {name: value for name, value in record.items() if "@" in name}
            changes = {"best_epoch": epoch, "best": metrics, "best_checkpoint": best_name}
        state.close_epoch(epoch, checkpoint, record, **changes)
        self.runner.end_epoch()

    def _trainable(self, sessions: Sessions) -> Sessions:
        """Return the sessions that have a sample, cut to their last max_session_length clicks and the next one.

        Prefixes of a longer session before that window are no samples: one pass attends to one window.
        """
        min_prefix = self.min_prefix
        usable = sessions.keep_last(self.config.model.max_session_length + 1)
        counts = sample_counts(usable, min_prefix, self.config.loss.targets, self.type_weights)
        usable = usable.select(np.flatnonzero(counts))
        if len(usable) == 0:
            raise nothing_to_learn(min_prefix, self.config.loss.targets, self.type_weights)
        return usable


def weights_of(config: Config, n_items: int, state: RunState, key: str) -> dict[str, np.ndarray]:
    """Return the arrays of the checkpoint that the state keeps as `key`, under the bundle's names.

    Raises TrainingError if a value is not finite: no loss comes after the last step.
    """
    model = MTAW(config, n_items)
    state.files.load_checkpoint(state["kept"][key], model, None)
    weights = {name: value.detach().cpu().numpy() for name, value in model.named_parameters()}
    for name, array in weights.items():
        if not (np.isfinite(array.min()) and np.isfinite(array.max())):
            raise TrainingError(
                f"the last step of a training left {name} with a value that is not finite: lower lr or weight_decay "
                "and start over with --overwrite"
            )
    return weights
