"""The progress line of a training (rich): phase, time left, a bar and the loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from mtaw_fast.errors import require

require("rich", "train")

from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, Progress, TaskID, TextColumn  # noqa: E402

_SMOOTHING = 0.98  # weight of the earlier losses in the shown loss
_MIN_SHARE = 0.02  # of the work: with less done, the time left is only a guess
_MIN_SECONDS = 0.5  # likewise


class TimeLeft:
    """Estimate the time that is left of a piece of work, at the speed of what is done. clock: returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._what, self._began = "", 0.0
        self._first = self._epoch = self._epochs = 1
        self._done, self._total = 0, 1

    def epoch_starts(self, phase: str, epoch: int, epochs: int, total: int) -> None:
        """Begin `epoch` (from 1) of `epochs` of the work `phase`; a resumed run begins at a later epoch than 1."""
        if phase != self._what:
            self._what, self._began, self._first = phase, self._clock(), epoch
        self._epoch, self._epochs, self._done, self._total = epoch, epochs, 0, max(total, 1)

    def step_done(self, count: int) -> None:
        """Count `count` more of the epoch's total as done."""
        self._done += count

    @property
    def share(self) -> float:
        """The part of the work, since this process began it, that is done."""
        return (self._epoch - self._first + self._done / self._total) / (self._epochs - self._first + 1)

    def seconds(self) -> float | None:
        """Return the seconds that are left; None while too little is done, and at the end."""
        elapsed, share = self._clock() - self._began, self.share
        if not _MIN_SHARE <= share < 1 or elapsed < _MIN_SECONDS:
            return None
        return elapsed * (1 - share) / share


def duration(seconds: float) -> str:
    """Format seconds as '41 s', '3 min 20 s' or '1 h 5 min'."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60} min"


class TrainingProgress:
    """Report a training on the console; use it as a context manager.

    On a terminal, one line changes in place ('3 of 7: search, 41 s left'). Elsewhere, a line is printed when a phase
    begins. Both print a line when an epoch ends.

    Parameters
    ----------
    console : Console, optional
        Where to print; stderr by default.
    clock : callable, default time.perf_counter
        Returns seconds.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%{task.fields[loss]}"),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._left = TimeLeft(clock)
        self._number, self._what, self._loss = "", "", math.nan

    def __enter__(self) -> TrainingProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._bar.stop()

    @property
    def line(self) -> str:
        """The text before the bar: '3 of 7: search, 41 s left'."""
        seconds = self._left.seconds()
        return f"{self._number}{self._what}" + ("" if seconds is None else f", {duration(seconds)} left")

    def phase_starts(self, phase: str, number: int, phases: int) -> None:
        """Show the name of the phase."""
        self._number, self._what, self._loss = f"{number} of {phases}: ", phase, math.nan
        self._left = TimeLeft(self._left._clock)
        if self._console.is_terminal:
            self._show(0.0)
        else:
            self._console.print(self.line, soft_wrap=True)

    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None:
        """Start the bar of the epoch."""
        self._left.epoch_starts(phase, epoch, epochs, sessions)
        self._what, self._loss = phase, math.nan
        self._show(self._left.share)

    def step_done(self, sessions: int, loss: float) -> None:
        """Advance the bar."""
        self._left.step_done(sessions)
        if loss:
            self._loss = loss if math.isnan(self._loss) else _SMOOTHING * self._loss + (1 - _SMOOTHING) * loss
        self._show(self._left.share)

    def epoch_ends(self, record: Mapping[str, Any]) -> None:
        """Print the epoch's line."""
        metrics = "".join(f"  {name} {value:.2f}" for name, value in record.items() if "@" in name)
        unit = "samples" if "samples_per_second" in record else "sessions"
        self._console.print(
            f"{record['phase']} epoch {record['epoch']}: loss {record['loss']:.4f}{metrics}  "
            f"({record['seconds']:.1f} s, {record[f'{unit}_per_second']:.0f} {unit}/s)",
            soft_wrap=True,
        )

    def _show(self, share: float) -> None:
        if not self._console.is_terminal:
            return
        loss = "" if math.isnan(self._loss) else f"  loss {self._loss:.4f}"
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task(self.line, total=1.0, loss=loss)
        self._bar.update(self._task, description=self.line, completed=share, loss=loss)
