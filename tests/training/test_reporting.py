"""What a training reports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.training import train


def test_the_reporter_receives_everything(ring: Dataset, small: Config, tmp_path: Path) -> None:
    received: list[tuple[str, Any]] = []

    class Listener:
        def phase_starts(self, phase: str, number: int, phases: int) -> None:
            received.append(("phase", (phase, number, phases)))

        def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None:
            received.append(("starts", sessions))

        def step_done(self, sessions: int, loss: float) -> None:
            received.append(("step", sessions))

        def epoch_ends(self, record: Mapping[str, Any]) -> None:
            received.append(("ends", record["epoch"]))

    train(ring, small.replace(epochs=1), tmp_path, refit=False, reporter=Listener())
    assert received[:2] == [("phase", ("search", 1, 1)), ("starts", 270)]
    assert received[-1] == ("ends", 1)
    assert sum(count for event, count in received if event == "step") == 270
