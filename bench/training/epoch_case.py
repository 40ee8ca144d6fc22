"""The case `epoch`: an epoch through the trainer's own step, and the stages of a step."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from bench.harness.agreement import step_error
from bench.harness.comparison import Case, Contender, Plan
from bench.harness.eager_faiss import gradients, true_step
from bench.training.loss_case import OURS, TOLERANCE, loss_floor, our_dtype
from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import TrainingError
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.batch import Batch, epoch_batches
from mtaw_fast.training.steps.full_step import Stepper, learning_rate

STAGES = ("batch", "encoder forward", "loss forward", "loss backward", "encoder backward", "clipping and Adam")
_ONCE = Plan(rounds=1, burst=1, settle=0, warmup=0, min_rounds=1)
_CPU = torch.device("cpu")
_FULL_RATE = 1.0  # epochs done: past the warm-up


@dataclass(frozen=True, eq=False)
class EpochBench:
    """One data set's epoch under one configuration."""

    dataset: Dataset
    config: Config
    threads: int

    @cached_property
    def sessions(self) -> Sessions:
        """The training sessions that hold a sample, as the trainer cuts them."""
        train = self.dataset.train
        usable = np.flatnonzero(train.lengths > self.dataset.min_prefix)
        return train.select(usable).keep_last(self.config.model.max_session_length + 1)

    @cached_property
    def batches(self) -> list[np.ndarray]:
        """Session numbers of every batch of the first epoch."""
        samples = self.sessions.lengths - self.dataset.min_prefix
        return epoch_batches(samples, self.config.optimizer.batch_prefixes, self.config.optimizer.seed, 1)

    @property
    def samples(self) -> int:
        """Samples of the whole epoch."""
        return int((self.sessions.lengths - self.dataset.min_prefix).sum())

    @property
    def params(self) -> dict[str, Any]:
        """What the row says about the epoch."""
        return {
            "catalog": self.dataset.n_items,
            "d": self.config.model.embedding_dim,
            "data": self.dataset.name,
            "batch": self.config.optimizer.batch_prefixes,
            "samples": self.samples,
            "steps": len(self.batches),
            "threads": self.threads,
            "backend": self.config.loss.loss_backend,
            "compute_dtype": str(our_dtype()).removeprefix("torch."),
        }

    def case(self) -> Case:
        """Time the whole epoch once, after checking its first step against float64."""
        return Case(
            "epoch",
            self.params,
            "epoch_s",
            Contender(OURS, lambda _: self._epoch()),
            [],
            lambda _: self.first_step_error(),
            _ONCE,
            loss_floor(
                self.samples,
                self.dataset.n_items,
                self.config.model.embedding_dim,
                "of every sample's logits and gradients",
            ),
        )

    def stages(self, steps: int) -> dict[str, float]:
        """Return the median milliseconds of each stage over up to `steps` steps spread over the epoch."""
        batches = self.batches[:: max(1, len(self.batches) // steps)][:steps]
        stepper = self.stepper(self.config)
        times = np.array([self.staged_step(stepper, numbers) for numbers in batches])
        return dict(
            zip(STAGES, (1e3 * np.median(times[1:] if len(times) > 1 else times, axis=0)).tolist(), strict=True)
        )

    def staged_step(self, stepper: Stepper, numbers: np.ndarray) -> list[float]:
        """Return the seconds of each of STAGES in a step that does what `Stepper.step` does."""
        config, model = self.config, stepper.model
        marks = [time.perf_counter()]
        batch = self.batch(numbers)
        marks.append(time.perf_counter())
        queries = model(batch.clicks, batch.offsets)[batch.rows]
        cut = queries.detach().requires_grad_()
        marks.append(time.perf_counter())
        loss = aw_loss(
            cut,
            model.item_embedding,
            batch.targets,
            scale=config.model.scale,
            gamma=config.loss.gamma,
            compute_dtype=our_dtype(),
            backend=config.loss.loss_backend,
        )
        marks.append(time.perf_counter())
        stepper.forget_gradients()
        loss.backward()
        marks.append(time.perf_counter())
        queries.backward(cut.grad)
        marks.append(time.perf_counter())
        stepper.update(learning_rate(config, _FULL_RATE))
        marks.append(time.perf_counter())
        return np.diff(marks).tolist()

    def _epoch(self) -> None:
        stepper = self.stepper(self.config)
        for step, numbers in enumerate(self.batches):
            loss = stepper.step(self.batch(numbers), step / len(self.batches))
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} in step {step + 1} of {len(self.batches)}; no speed is reported"
                )

    def batch(self, numbers: np.ndarray) -> Batch:
        """Return the batch of these sessions."""
        return Batch.of(self.sessions.select(numbers), self.dataset.min_prefix, _CPU)

    def stepper(self, config: Config) -> Stepper:
        """Return a stepper of an untrained model; the same seed gives the same weights."""
        return Stepper(MTAW(config, self.dataset.n_items).draw_weights(config.optimizer.seed).train(), config)

    def first_step_error(self) -> str | None:
        """Return why loss and gradients of the first step, without dropout, differ from float64, or None."""
        plain = self.config.replace(dropout=0.0)
        stepper, batch = self.stepper(plain), self.batch(self.batches[0])
        weights = {name: value.detach().numpy().copy() for name, value in stepper.model.named_parameters()}
        loss = stepper.step(batch, _FULL_RATE)
        return step_error(loss, gradients(stepper.model), *true_step(plain, weights, batch), TOLERANCE[our_dtype()])


def stages_in_words(stages: dict[str, float]) -> str:
    """Return one line: the stages' median milliseconds and their shares of a step."""
    total = sum(stages.values())
    parts = (f"{name} {ms:.1f} ({100 * ms / total:.0f}%)" for name, ms in stages.items())
    return f"stages of a step, median ms of {total:.0f}: {', '.join(parts)}"
