"""The case `shared`: training with several threads against training with one, beside processes that never rest."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from bench.harness.comparison import Case, Comparison, Contender, Plan, Timing
from bench.training.epoch_case import EpochBench
from bench.training.loss_case import OURS
from mtaw_fast.config import Config, preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.training.plan.threads import Threads, training_threads
from mtaw_fast.training.steps.full_step import Stepper

ONE_THREAD, BARRIERS = "one-thread", "torch-barriers"
LIMIT = 1.3  # times what one thread takes, the median of the pairs
_FULL_RATE = 1.0  # epochs done: past the warm-up
# A process that outlives the bench would be a plague: each looks whether its parent is there.
_BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(100_000): pass\n"


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep `count` processes busy meanwhile."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-c", _BUSY])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def small_data(n_items: int, n_sessions: int) -> Dataset:
    """Sessions of 2 to 8 random clicks: what they are does not change what a step costs."""
    rng = np.random.default_rng(0)
    draw = [rng.integers(0, n_items, length) for length in rng.integers(2, 9, n_sessions)]
    held_out = Samples.from_sessions(Sessions.from_lists([[0, 1]]), 1)
    return Dataset("random", Sessions.from_lists(draw), held_out, ItemIds.from_list(list(range(n_items))))


@dataclass(frozen=True, eq=False)
class SharedBench:
    """Stretches of `steps` training steps of the preset `full` on a small data set.

    threads: what is held against one thread. busy: processes beside it, 0 for none. barriers: whether PyTorch is to
    take as many threads in a third contender.
    """

    data: EpochBench
    threads: int
    busy: int
    steps: int
    barriers: bool = False

    @classmethod
    def of(cls, n_items: int, threads: int, busy: int, steps: int, *, backend: str, barriers: bool) -> SharedBench:
        """Over a catalog of that size."""
        config = preset("full").override([f"loss_backend={backend}"])
        batches = steps + 1
        data = EpochBench(small_data(n_items, batches * config.optimizer.batch_prefixes // 3), config, threads)
        return cls(data, threads, busy, steps, barriers)

    def case(self, plan: Plan) -> Case:
        """Ours and one thread from the same weights; they must end with the same bits."""
        counts = {OURS: Threads(self.threads), ONE_THREAD: Threads(1)}
        if self.barriers:
            counts[BARRIERS] = Threads(self.threads, self.threads)
        steppers = {name: self._stepper(threads) for name, threads in counts.items()}

        def contender(name: str) -> Contender:
            return Contender(name, lambda _: self._stretch(steppers[name], counts[name]))

        @cache
        def expected() -> list[torch.Tensor]:
            return self._trained(counts[ONE_THREAD])

        def check(contender: Contender) -> str | None:
            found = self._trained(counts[contender.name])
            if contender.name == BARRIERS:  # rounds differently
                fine = all(torch.allclose(a, b, atol=1e-2) for a, b in zip(found, expected(), strict=True))
            else:
                fine = all(torch.equal(a, b) for a, b in zip(found, expected(), strict=True))
            return None if fine else "the weights after some steps are not those of one thread"

        others = [contender(name) for name in counts if name != OURS]
        return Case("shared", self.params, "stretch_s", contender(OURS), others, check, plan)

    @property
    def params(self) -> dict[str, Any]:
        """What the row says of the case."""
        return {**self.data.params, "steps": self.steps, "busy": self.busy}

    def _stepper(self, threads: Threads) -> Stepper:
        with training_threads(threads):
            return self.data.stepper(self._config)

    @property
    def _config(self) -> Config:
        return self.data.config

    def _stretch(self, stepper: Stepper, threads: Threads) -> None:
        torch.manual_seed(0)  # the same dropout for all
        with training_threads(threads):
            for numbers in self.data.batches[: self.steps]:
                stepper.step(self.data.batch(numbers), _FULL_RATE)

    def _trained(self, threads: Threads) -> list[torch.Tensor]:
        stepper = self._stepper(threads)
        self._stretch(stepper, threads)
        return [parameter.detach() for parameter in stepper.model.parameters()]


def median_of_pairs(comparison: Comparison) -> float:
    """The time of several threads over that of one, the median over the rounds."""
    one = next(timing for timing in comparison.baselines if timing.name == ONE_THREAD)
    return float(np.median(_rounds(comparison.ours) / _rounds(one)))


def _rounds(timing: Timing) -> np.ndarray:
    return timing.seconds.sum(axis=1)
