"""The case `epoch`: an epoch through the trainer's own step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from bench.harness.agreement import step_error
from bench.harness.comparison import Case, Contender, Plan
from bench.harness.eager_faiss import gradients, true_step
from bench.training.loss_case import OURS, TOLERANCE, loss_floor, our_dtype
from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import TrainingError
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.batch import Batch, epoch_batches
from mtaw_fast.training.steps.full_step import Stepper

_ONCE = Plan(rounds=1, burst=1, settle=0, warmup=0, min_rounds=1)
_FULL_RATE = 1.0  # epochs done: past the warm-up


def epoch_case(dataset: Dataset, threads: int) -> Case:
    """Time a whole epoch of the default settings once, after checking its first step against float64."""
    config = Config()
    usable = np.flatnonzero(dataset.train.lengths > dataset.min_prefix)
    sessions = dataset.train.select(usable).keep_last(config.model.max_session_length + 1)  # as the trainer cuts them
    counts = sessions.lengths - dataset.min_prefix
    numbers = epoch_batches(counts, config.optimizer.batch_prefixes, config.optimizer.seed, 1)

    def batch(step: int) -> Batch:
        return Batch.of(sessions.select(numbers[step]), dataset.min_prefix, torch.device("cpu"))

    def stepper(settings: Config) -> Stepper:
        return Stepper(MTAW(settings, dataset.n_items).draw_weights(settings.optimizer.seed).train(), settings)

    def check(_: Contender) -> str | None:
        plain = config.replace(dropout=0.0)
        first, first_batch = stepper(plain), batch(0)
        weights = {name: value.detach().numpy().copy() for name, value in first.model.named_parameters()}
        loss = first.step(first_batch, _FULL_RATE)
        truth = true_step(plain, weights, first_batch)
        return step_error(loss, gradients(first.model), *truth, TOLERANCE[our_dtype()])

    def epoch(_: int) -> None:
        trained = stepper(config)
        for step in range(len(numbers)):
            loss = trained.step(batch(step), step / len(numbers))
            if not math.isfinite(loss):
                raise TrainingError(f"the loss is {loss} in step {step + 1} of {len(numbers)}; no speed is reported")

    samples, d = int(counts.sum()), config.model.embedding_dim
    params: dict[str, Any] = {
        "catalog": dataset.n_items, "d": d, "data": dataset.name, "batch": config.optimizer.batch_prefixes,
        "samples": samples, "steps": len(numbers), "threads": threads, "backend": config.loss.loss_backend,
        "compute_dtype": str(our_dtype()).removeprefix("torch."),
    }  # fmt: skip
    floor = loss_floor(samples, dataset.n_items, d, "of every sample's logits and gradients")
    return Case("epoch", params, "epoch_s", Contender(OURS, epoch), [], check, _ONCE, floor)
