"""The progress line of a training (rich): phase, a bar, the loss and the time left."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from mtaw_fast.errors import require

require("rich", "train")

from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn  # noqa: E402

_SILENCE = 10.0  # seconds
_SMOOTHING = 0.98  # weight of the earlier losses in the shown loss


class TrainingProgress:
    """Report a training on the console (default: stderr); use it as a context manager.

    On a terminal, one line changes in place ('3 of 7: search', a bar, '0:00:41' left). Elsewhere, a line is printed
    when a phase begins, and every ten seconds of a long epoch. Both print a line when an epoch ends.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%{task.fields[loss]}"),
            TimeRemainingColumn(),
            console=self._console,
            speed_estimate_period=600,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._number, self._phase, self._loss = "", "", math.nan
        self._said = 0.0  # when a line was printed
        self._share = 0.0  # of the phase: one session of the epoch

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def phase_starts(self, phase: str, number: int, phases: int) -> None:
        """Show the name of the phase."""
        self._number, self._phase = f"{number} of {phases}: ", ""
        self._begin(phase, 0.0)
        if not self._console.is_terminal:
            self._print(f"{self._number}{phase}")

    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None:
        """Begin the bar of a piece of work, or go on with it; a resumed run begins at a later epoch than 1."""
        if phase != self._phase:
            self._phase = phase
            self._begin(phase, (epoch - 1) / epochs)
        self._share, self._loss = 1 / epochs / max(sessions, 1), math.nan

    def step_done(self, sessions: int, loss: float) -> None:
        """Advance the bar."""
        if loss:
            self._loss = loss if math.isnan(self._loss) else _SMOOTHING * self._loss + (1 - _SMOOTHING) * loss
        if self._task is not None:
            text = "" if math.isnan(self._loss) else f"  loss {self._loss:.4f}"
            self._bar.update(self._task, advance=sessions * self._share, loss=text)
            if not self._console.is_terminal and time.monotonic() - self._said > _SILENCE:
                done = self._bar.tasks[0].percentage
                self._print(f"{self._number}{self._phase} {done:.0f}%{text}")

    def epoch_ends(self, record: Mapping[str, Any]) -> None:
        """Print the epoch's line."""
        metrics = "".join(f"  {name} {value:.2f}" for name, value in record.items() if "@" in name)
        unit = "samples" if "samples_per_second" in record else "sessions"
        self._print(
            f"{record['phase']} epoch {record['epoch']}: loss {record['loss']:.4f}{metrics}  "
            f"({record['seconds']:.1f} s, {record[f'{unit}_per_second']:.0f} {unit}/s)"
        )

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)
        self._said = time.monotonic()

    def _begin(self, what: str, done: float) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(f"{self._number}{what}", total=1.0, completed=done, loss="")  # type: ignore[arg-type]
