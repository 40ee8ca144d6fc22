"""The case of one training step: what is timed, how it is checked, and its limit."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from bench.harness import eager_faiss
from bench.harness.agreement import step_error
from bench.harness.comparison import Case, Contender, Plan
from bench.harness.eager_faiss import EagerStep, gradients, load_model, true_step
from bench.harness.floors import flop_floor, read_floor, sum_of
from bench.harness.workload import Workload
from mtaw_fast.config import Config
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.encoder.initial_weights import initialize
from mtaw_fast.training.steps.batch import Batch, epoch_batches
from mtaw_fast.training.steps.full_step import Stepper, compute_dtype

_STEP_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # of loss and gradients, relative
_STEP_BATCHES = 16
_STEP_LOGITS = 1 << 25  # samples x catalog of a step, at most: the dense baseline holds them several times over
_CPU = torch.device("cpu")
_FULL_RATE = 1.0  # epochs done: past the warm-up


def train_step(workload: Workload, threads: int, plan: Plan) -> Case:
    """Compare one optimization step, from a batch to updated weights; samples in params are of the first batch.

    It starts from initial weights: some gradients of trained weights are differences of nearly equal terms, which no
    float32 step computes correctly.
    """
    bundle = workload.bundle
    config = bundle.config.replace(compute_dtype="auto")
    start = MTAW(config, bundle.n_items)
    initialize(start, workload.train)
    weights = {name: value.detach().numpy() for name, value in start.named_parameters()}
    budget = min(config.optimizer.batch_prefixes, max(1, _STEP_LOGITS // bundle.n_items))
    numbers = epoch_batches(workload.train.lengths - workload.min_prefix, budget, 0, 0)[:_STEP_BATCHES]
    batches = [Batch.of(workload.train.select(rows), workload.min_prefix, _CPU) for rows in numbers]
    dtype = compute_dtype(config, _CPU) or torch.float32

    def ours_of(settings: Config) -> Stepper:
        return Stepper(load_model(settings, weights), settings)

    def theirs_of(settings: Config) -> EagerStep:
        return EagerStep(load_model(settings, weights), settings)

    plain = config.replace(dropout=0.0, clip_norm=0.0)  # gradients are compared as they are

    @cache
    def truth() -> tuple[float, list[np.ndarray]]:
        return true_step(plain, weights, batches[0])

    def check(contender: Contender) -> str | None:
        if contender.name == eager_faiss.NAME:
            theirs = theirs_of(plain)
            loss, model, precision = theirs.step(batches[0]), theirs.model, torch.float32
        else:
            ours = ours_of(plain)
            loss, model, precision = ours.step(batches[0], _FULL_RATE), ours.model, dtype
        return step_error(loss, gradients(model), *truth(), _STEP_TOLERANCE[precision])

    ours, theirs = ours_of(config), theirs_of(config)
    samples, n_items, d = len(batches[0].targets), bundle.n_items, config.model.embedding_dim
    return Case(
        "train-step",
        {
            **workload.params,
            "batch": samples,
            "threads": threads,
            "loss_backend": config.loss.loss_backend,
            "compute_dtype": str(dtype).removeprefix("torch."),
        },
        "latency_ms",
        Contender("ours", lambda call: ours.step(batches[call % len(batches)], _FULL_RATE)),
        [Contender(eager_faiss.NAME, lambda call: theirs.step(batches[call % len(batches)]))],
        check,
        plan,
        sum_of(
            flop_floor(
                6.0 * samples * n_items * d,
                "the loss's three products (logits, gradient of queries, gradient of items)",
                str(dtype).removeprefix("torch."),
            ),
            read_floor(16 * n_items * d, f"Adam's weights, gradients and two moments [{n_items}, {d}] in float32"),
        ),
    )
