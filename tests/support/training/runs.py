"""Trainings that are watched, killed and resumed."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import UsageError
from mtaw_fast.model.model import Model
from mtaw_fast.training import TrainedModel, train
from mtaw_fast.training.progress import Silent


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# A training with a memory, in a process that kills itself in an epoch.
CHILD = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from tests.support.training.curves import undrawn
    from tests.support.training.ring import memory_config, ring_dataset
    from mtaw_fast.training import run_state, train
    from mtaw_fast.training.progress import Silent

    class Killer(Silent):
        def epoch_starts(self, phase, epoch, epochs, sessions):
            self.at = (phase, epoch)
        def step_done(self, sessions, loss):
            if self.at == {kill_at!r}:
                os.kill(os.getpid(), signal.SIGKILL)

    run_state.plot_curves = undrawn
    train(ring_dataset(), memory_config(), Path({folder!r}), reporter=Killer())
    """
)


def in_child(folder: Path, kill_at: tuple[str, int], before: str = "") -> subprocess.CompletedProcess[str]:
    """Run `before` and CHILD in a process of one thread."""
    root = str(Path(__file__).parents[3])
    code = before + CHILD.format(root=root, kill_at=kill_at, folder=str(folder))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root, env=environment
    )


def same(a: Model, b: Model) -> bool:
    """Whether encoder, memory and ranker have the same bits."""
    pairs = [(a.weights, b.weights)]
    if a.memory is not None:
        assert b.memory is not None
        assert a.ranker_net is not None
        assert b.ranker_net is not None
        pairs += [(a.memory.arrays(), b.memory.arrays()), (a.ranker_net.arrays(), b.ranker_net.arrays())]
    return all(np.array_equal(array, others[name]) for arrays, others in pairs for name, array in arrays.items())


def assert_resumed(dataset: Dataset, config: Config, folder: Path, whole: TrainedModel) -> None:
    """The run of the folder, resumed, ends with what the whole one has."""
    if (folder / "state.json").exists():
        with pytest.raises(UsageError, match=r"unfinished training.*--resume"):
            train(dataset, config, folder)
    resumed = train(dataset, config, folder, resume=True)
    assert same(resumed.model, whole.model)
    times = {"seconds", "sessions_per_second", "samples_per_second"}
    records, expected = (
        [{name: value for name, value in record.items() if name not in times} for record in history]
        for history in (resumed.history, whole.history)
    )
    assert records == expected


class StopsAt(Silent):
    """Interrupts a training in a phase and epoch of it, if given, after a number of steps there."""

    def __init__(self, step: int = 1, phase: str = "", epoch: int = 0) -> None:
        self.left, self.place = step, (phase, epoch)
        self.now = ("", 0)

    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None:
        self.now = (phase, epoch)

    def step_done(self, sessions: int, loss: float) -> None:
        self.left -= self.place in (("", 0), self.now)
        if self.left == 0:
            raise KeyboardInterrupt


def fail_at(patch: pytest.MonkeyPatch, steps: ModuleType, number: int, value: float) -> None:
    """Turn the loss of one step, counted from 1, into `value`. steps: the module of the stepper."""
    calls, right = itertools.count(1), steps.aw_loss

    def faulty(*arguments: Any, **settings: Any) -> torch.Tensor:
        return right(*arguments, **settings) * (value if next(calls) == number else 1.0)

    patch.setattr(steps, "aw_loss", faulty)
