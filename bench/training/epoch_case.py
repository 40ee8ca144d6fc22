"""The cases `epoch`, an epoch through the trainer's own step, and `small-batch`, small against large batches."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle
from typing import Any

import numpy as np
import torch

from bench.harness.agreement import step_error
from bench.harness.comparison import Case, Contender, Plan
from bench.harness.eager_faiss import gradients, true_step
from bench.training.loss_case import OURS, TOLERANCE, loss_floor, our_dtype
from mtaw_fast.config import Config, preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import TrainingError
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.batch import Batch, epoch_batches
from mtaw_fast.training.steps.full_step import Stepper, learning_rate
from mtaw_fast.training.threads import Threads, training_threads

STAGES = ("batch", "encoder forward", "loss forward", "loss backward", "encoder backward", "clipping and Adam")
_ONCE = Plan(rounds=1, burst=1, settle=0, warmup=0, min_rounds=1)
_CPU = torch.device("cpu")
_FULL_RATE = 1.0  # epochs done: past the warm-up
SMALL, LARGE = 100, 1024  # samples a step, at most: the paper's, and the presets'


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


@dataclass(eq=False)
class Stretches:
    """The turns of one batch size: `steps` steps each, through the epoch, with the weights of the turn before."""

    bench: EpochBench
    steps: int
    processor_seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._threads = Threads(self.bench.threads)
        with training_threads(self._threads):
            self._stepper = self.bench.stepper(self.bench.config)
        self._batches: Iterator[np.ndarray] = cycle(self.bench.batches)

    def run(self, _turn: int) -> None:
        """Take the next steps."""
        began = time.process_time()
        with training_threads(self._threads):
            for _ in range(self.steps):
                self._stepper.step(self.bench.batch(next(self._batches)), _FULL_RATE)
        self.processor_seconds.append(time.process_time() - began)


class BatchBench:
    """The trainer's own steps of the preset `paper`; a turn is the same share of an epoch in both batch sizes.

    dataset: None for random sessions over `n_items` items. steps: how many steps a turn with large batches has.
    """

    def __init__(self, dataset: Dataset | None, n_items: int, threads: int, steps: int, *, backend: str) -> None:
        config = preset("paper").override([f"loss_backend={backend}"])
        data = small_data(n_items, 8 * steps * LARGE) if dataset is None else dataset
        large, small = (_bench(data, config, batch, threads) for batch in (LARGE, SMALL))
        self.steps = {LARGE: steps, SMALL: round(steps * len(small.batches) / len(large.batches))}
        self._epochs = {LARGE: len(large.batches), SMALL: len(small.batches)}
        self._stretches = {LARGE: Stretches(large, steps), SMALL: Stretches(small, self.steps[SMALL])}

    def case(self, plan: Plan) -> Case:
        """Compare small batches (ours) with large ones; a first step of each is checked against float64 before."""
        contenders = {name_of(batch): Contender(name_of(batch), s.run) for batch, s in self._stretches.items()}
        benches = {name_of(batch): s.bench for batch, s in self._stretches.items()}
        small = benches[name_of(SMALL)]
        return Case(
            "small-batch",
            {**small.params, "steps": self.steps[SMALL]},
            "stretch_s",
            contenders[name_of(SMALL)],
            [contenders[name_of(LARGE)]],
            lambda contender: benches[contender.name].first_step_error(),
            plan,
        )

    def times(self, seconds: dict[int, np.ndarray]) -> float:
        """Return the time of an epoch in small batches divided by that in large ones.

        seconds: of the turns, by size.
        """
        of_step = {batch: np.median(turns) / self.steps[batch] for batch, turns in seconds.items()}
        of_epoch = {batch: step * self._epochs[batch] for batch, step in of_step.items()}
        return float(of_epoch[SMALL] / of_epoch[LARGE])

    def params(self, batch: int) -> dict[str, Any]:
        """Return what a row says about an epoch in batches of a size."""
        return self._stretches[batch].bench.params

    def step_ms(self, batch: int, seconds: np.ndarray) -> float:
        """Return the median milliseconds of a step. seconds: of the turns."""
        return float(1e3 * np.median(seconds) / self.steps[batch])

    def processor_seconds(self) -> dict[int, np.ndarray]:
        """Return the processor seconds of every turn, without the first (warm-up) of each."""
        return {batch: np.array(s.processor_seconds[1:]) for batch, s in self._stretches.items()}


def name_of(batch: int) -> str:
    """Return the contender's name."""
    return f"batch-{batch}"


def _bench(data: Dataset, config: Config, batch: int, threads: int) -> EpochBench:
    return EpochBench(data, config.replace(batch_prefixes=batch), threads)


def small_data(n_items: int, n_sessions: int) -> Dataset:
    """Draw sessions of 2 to 8 random clicks: their content does not change what a step costs."""
    rng = np.random.default_rng(0)
    draw = [rng.integers(0, n_items, length) for length in rng.integers(2, 9, n_sessions)]
    held_out = Samples.from_sessions(Sessions.from_lists([[0, 1]]), 1)
    return Dataset("random", Sessions.from_lists(draw), held_out, ItemIds.from_list(list(range(n_items))))
