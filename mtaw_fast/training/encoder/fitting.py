"""Fitting MTAW to sessions: epochs with a checkpoint after each, taken up where a run was cut off."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import TrainingError, UsageError
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.encoder.batch import Batch, nothing_to_learn, sample_counts
from mtaw_fast.training.encoder.batching import epoch_batches
from mtaw_fast.training.encoder.initial_weights import initialize
from mtaw_fast.training.encoder.prefetch import made_ahead
from mtaw_fast.training.plan.threads import current_threads, training_threads
from mtaw_fast.training.reporting import Reporter, Trace
from mtaw_fast.training.run_state import RunState
from mtaw_fast.training.steps.choice import make_stepper
from mtaw_fast.training.steps.full_step import AnyStepper, learning_rate

BEST_BY = "MRR@20"
_SESSIONS_NAMED = 5


@dataclass(frozen=True, slots=True)
class Fitting:
    """What every phase that trains weights works with.

    n_items, min_prefix: the data set's. type_weights: float32[K], what samples count by the type of their target; None
    where all count the same.
    """

    config: Config
    n_items: int
    min_prefix: int
    device: torch.device
    state: RunState
    reporter: Reporter
    type_weights: np.ndarray | None = None

    def fit(
        self,
        phase: str,
        sessions: Sessions,
        epochs: int,
        judge: Callable[[MTAW], dict[str, float]] | None = None,
        patience: int = 0,
        start: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Train a new model on `sessions` until the state's checkpoint has seen `epochs` of them.

        judge: metrics of the model after an epoch, by whose MRR@20 the state's best epoch is chosen; patience: epochs
        without a better one before stopping, 0 never stops. start: weights under the bundle's names to go on from;
        None draws them. Raises TrainingError on a loss that is not finite.
        """
        with training_threads(current_threads()):
            self._fit(phase, sessions, epochs, judge, patience, start)

    def _fit(
        self,
        phase: str,
        sessions: Sessions,
        epochs: int,
        judge: Callable[[MTAW], dict[str, float]] | None,
        patience: int,
        start: Mapping[str, np.ndarray] | None,
    ) -> None:
        stepper = self._begin(phase, sessions, start)
        usable = self._trainable(sessions)
        while self.state["epoch"] < epochs and not 0 < patience <= self.state["epoch"] - self.state["best_epoch"]:
            epoch = self.state["epoch"] + 1
            record = self._epoch(phase, epoch, epochs, stepper, usable)
            record |= self._judged(stepper, judge) if judge is not None else {}
            self._close(phase, epoch, record, stepper, judge is not None)
            self.reporter.epoch_ends(record)

    def _begin(self, phase: str, sessions: Sessions, start: Mapping[str, np.ndarray] | None) -> AnyStepper:
        """What steps a model that stands where the state is, or at the start."""
        del phase  # of use where others must be told
        model = MTAW(self.config, self.n_items).to(self.device)
        stepper = make_stepper(model, self.config, sessions)
        if self.state["checkpoint"] is None and start is not None:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(torch.from_numpy(np.array(start[name])))
        elif self.state["checkpoint"] is None:
            initialize(model, sessions)
        else:
            self.state.files.load_checkpoint(self.state["checkpoint"], model, stepper)
        return stepper

    def _judged(self, stepper: AnyStepper, judge: Callable[[MTAW], dict[str, float]]) -> dict[str, float]:
        """Metrics of what the stepper has trained."""
        return judge(stepper.model)

    def _save(self, name: str, stepper: AnyStepper, moments: bool) -> None:
        """Write weights and, where asked for, Adam's moments to the file `name`."""
        self.state.files.save_checkpoint(name, stepper.model, stepper if moments else None)

    def _epoch(self, phase: str, epoch: int, epochs: int, stepper: AnyStepper, sessions: Sessions) -> dict[str, Any]:
        config = self.config
        # A state that depends on the epoch alone: a resumed run draws the same dropout.
        torch.manual_seed(int(np.random.SeedSequence([config.optimizer.seed, epoch]).generate_state(1)[0]))
        stepper.model.train()
        samples = sample_counts(sessions, self.min_prefix, config.loss.targets, self.type_weights)
        batches = epoch_batches(samples, config.optimizer.batch_prefixes, config.optimizer.seed, epoch)
        self.reporter.epoch_starts(phase, epoch, epochs, len(sessions))
        began, loss, trace = time.perf_counter(), 0.0, Trace(len(sessions))
        # A warm-up shorter than a step would only make that step one of learning rate 0.
        skipped = config.optimizer.warmup_epochs if config.optimizer.warmup_epochs * len(batches) < 1 else 0.0

        def made(numbers: np.ndarray) -> Any:
            chosen, device = sessions.select(numbers), stepper.input_device
            return stepper.stage(Batch.of(chosen, self.min_prefix, device, config.loss.targets, self.type_weights))

        for step, (numbers, batch) in enumerate(made_ahead(made, batches, stepper.ahead)):
            loss = stepper.step(batch, max(epoch - 1 + step / len(batches), skipped))
            if not math.isfinite(loss):
                break
            trace.add(len(numbers), loss)
            self.reporter.step_done(len(numbers), loss)
        mean = stepper.end_epoch()
        if stepper.failed_step is not None:
            failed = stepper.failed_step
            named = ", ".join(map(str, batches[failed][:_SESSIONS_NAMED]))
            raise TrainingError(
                f"the loss is {mean} in {phase} epoch {epoch}, step {failed + 1} of {len(batches)} (sessions "
                f"{named}, .. of those that hold a sample); the last whole epoch is kept: lower lr or scale and "
                "start anew with --overwrite"
            )
        seconds, threads = time.perf_counter() - began, current_threads()
        return {
            "phase": phase,
            "epoch": epoch,
            "loss": mean,
            "losses": trace.losses(),
            "lr": learning_rate(config, epoch),
            "seconds": round(seconds, 3),
            "sessions_per_second": round(len(sessions) / seconds, 1),
            "threads": threads.pieces,
            "encoder_threads": threads.encoder,
        }

    def _close(self, phase: str, epoch: int, record: dict[str, Any], stepper: AnyStepper, judged: bool) -> None:
        state = self.state
        checkpoint = f"checkpoint-{phase}-{epoch}.safetensors"
        self._save(checkpoint, stepper, moments=True)
        changes: dict[str, Any] = {}
        if judged and (state["best"] is None or record[BEST_BY] > state["best"][BEST_BY]):
            best = f"best-{epoch}.safetensors"
            self._save(best, stepper, moments=False)
            metrics = {name: value for name, value in record.items() if "@" in name}
            changes = {"best_epoch": epoch, "best": metrics, "best_checkpoint": best}
        state.close_epoch(epoch, checkpoint, record, **changes)

    def _trainable(self, sessions: Sessions) -> Sessions:
        """Sessions that hold a sample, cut to their last max_len clicks and the target after them.

        Of a longer session the prefixes before that window are no samples: one pass can attend to one window.
        """
        max_len, min_prefix = self.config.model.max_session_length, self.min_prefix
        if max_len < min_prefix:
            raise UsageError(
                f"setting max_len={max_len} is below the data set's shortest prefix, {min_prefix}; raise it"
            )
        usable = sessions.keep_last(max_len + 1)
        counts = sample_counts(usable, min_prefix, self.config.loss.targets, self.type_weights)
        usable = usable.select(np.flatnonzero(counts))
        if len(usable) == 0:
            raise nothing_to_learn(min_prefix, self.config.loss.targets, self.type_weights)
        return usable
