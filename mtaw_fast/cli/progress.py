"""Progress bars (rich) for long work."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from mtaw_fast.errors import require

require("rich", "train")

from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn  # noqa: E402

_SMOOTHING = 0.98


class TrainingProgress:
    """A bar an epoch, with sessions/s, running loss and time left; a line when the epoch ends.

    A training Reporter; use it as a context manager.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]:.0f} sessions/s  loss {task.fields[loss]:.4f}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._done, self._began = 0, 0.0
        self._loss = math.nan

    def __enter__(self) -> TrainingProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._bar.stop()

    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None:
        """Start the epoch's bar."""
        if self._task is None:
            self._bar.start()
        else:
            self._bar.remove_task(self._task)
        self._done, self._began, self._loss = 0, time.perf_counter(), math.nan
        self._task = self._bar.add_task(f"{phase} {epoch}/{epochs}", total=sessions, speed=0.0, loss=math.nan)

    def step_done(self, sessions: int, loss: float) -> None:
        """Advance the bar."""
        assert self._task is not None, "epoch_starts comes first"
        self._done += sessions
        self._loss = loss if math.isnan(self._loss) else _SMOOTHING * self._loss + (1 - _SMOOTHING) * loss
        speed = self._done / (time.perf_counter() - self._began)
        self._bar.update(self._task, advance=sessions, speed=speed, loss=self._loss)

    def epoch_ends(self, record: Mapping[str, Any]) -> None:
        """Print the epoch's line."""
        metrics = "".join(f"  {name} {value:.2f}" for name, value in record.items() if "@" in name)
        self._console.print(
            f"{record['phase']} epoch {record['epoch']}: loss {record['loss']:.4f}{metrics}  "
            f"({record['seconds']:.1f} s, {record['sessions_per_second']:.0f} sessions/s)",
            soft_wrap=True,
        )
