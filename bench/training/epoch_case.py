"""The case `epoch`: an epoch through the trainer's own step."""

from __future__ import annotations

import math
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
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.batch import Batch, epoch_batches
from mtaw_fast.training.steps.full_step import Stepper

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

    def case(self) -> Case:
        """Time the whole epoch once, after checking its first step against float64."""
        samples = int((self.sessions.lengths - self.dataset.min_prefix).sum())
        n_items, d = self.dataset.n_items, self.config.model.embedding_dim
        params: dict[str, Any] = {
            "catalog": n_items, "d": d, "data": self.dataset.name, "batch": self.config.optimizer.batch_prefixes,
            "samples": samples, "steps": len(self.batches), "threads": self.threads,
            "backend": self.config.loss.loss_backend, "compute_dtype": str(our_dtype()).removeprefix("torch."),
        }  # fmt: skip
        floor = loss_floor(samples, n_items, d, "of every sample's logits and gradients")
        ours = Contender(OURS, lambda _: self._epoch())
        return Case("epoch", params, "epoch_s", ours, [], lambda _: self.first_step_error(), _ONCE, floor)

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
