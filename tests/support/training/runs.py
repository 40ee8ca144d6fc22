"""Trainings that are watched, killed and resumed."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from mtaw_fast.training.progress import Silent
from mtaw_fast.training.steps.full_step import Stepper


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


CHILD = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from tests.support.training.curves import undrawn
    from tests.support.training.ring import ring_dataset, small_config
    from mtaw_fast.training import TrainedModel, run_state, train
    from mtaw_fast.training.progress import Silent

    class Killer(Silent):
        steps = 0
        def step_done(self, sessions, loss):
            self.steps += 1
            if self.steps == {kill_at}:
                os.kill(os.getpid(), signal.SIGKILL)

    run_state.plot_curves = undrawn
    train(ring_dataset(), small_config(), Path({folder!r}), reporter=Killer())
    """
)


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


class FailsAt:
    """Turns the loss into `value` from one step on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int, value: float) -> None:
        self.calls = 0
        original = Stepper._loss

        def faulty(stepper: Stepper, clicked: torch.Tensor, batch: Any) -> torch.Tensor:
            self.calls += 1
            return original(stepper, clicked, batch) * (value if self.calls >= step else 1.0)

        monkeypatch.setattr(Stepper, "_loss", faulty)
