"""The case `small-batch`: an epoch in small batches against one in large ones, by steps in turns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np

from bench.harness.comparison import Case, Contender, Plan
from bench.training.epoch_case import EpochBench
from mtaw_fast.config import Config, preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.training.threads import Threads, training_threads

SMALL, LARGE = 100, 1024  # samples a step, at most: the paper's, and the presets'
LIMIT = 2.5  # times what an epoch in large batches takes
_FULL_RATE = 1.0  # epochs done: past the warm-up


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

    dataset: None for random sessions over `n_items` items. steps: of the large batches, a turn.
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
        """Return an epoch in small batches over one in large ones. seconds: of the turns, by batch size."""
        of_step = {batch: np.median(taken) / self.steps[batch] for batch, taken in seconds.items()}
        of_epoch = {batch: one * self._epochs[batch] for batch, one in of_step.items()}
        return float(of_epoch[SMALL] / of_epoch[LARGE])

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
