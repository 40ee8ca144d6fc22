"""How a training reports its progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Reporter(Protocol):
    """Receives the progress; all methods are called from the training thread.

    A training has phases (`mtaw_fast.config.phases`). Each phase works in epochs: those of its own name, and those of
    what it prepares before ('ranker, dataset').
    """

    def phase_starts(self, phase: str, number: int, phases: int) -> None:
        """Phase `number` of `phases` starts, counted from 1."""
        ...

    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None:
        """An epoch starts, counted from 1, over so many sessions (samples, clicks)."""
        ...

    def step_done(self, sessions: int, loss: float) -> None:
        """So many more sessions of the epoch are done."""
        ...

    def epoch_ends(self, record: Mapping[str, Any]) -> None:
        """A trained epoch has ended; the record is the one in the history."""
        ...


class Silent:
    """A reporter that does nothing."""

    def phase_starts(self, phase: str, number: int, phases: int) -> None: ...
    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None: ...
    def step_done(self, sessions: int, loss: float) -> None: ...
    def epoch_ends(self, record: Mapping[str, Any]) -> None: ...


class Several:
    """A reporter that calls others, in order."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self._reporters = tuple(reporters)

    def phase_starts(self, phase: str, number: int, phases: int) -> None:
        for reporter in self._reporters:
            reporter.phase_starts(phase, number, phases)

    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None:
        for reporter in self._reporters:
            reporter.epoch_starts(phase, epoch, epochs, sessions)

    def step_done(self, sessions: int, loss: float) -> None:
        for reporter in self._reporters:
            reporter.step_done(sessions, loss)

    def epoch_ends(self, record: Mapping[str, Any]) -> None:
        for reporter in self._reporters:
            reporter.epoch_ends(record)


class LossCurve:
    """The mean losses of the twentieths of an epoch."""

    _POINTS = 20

    def __init__(self, total: int) -> None:
        self._total, self._done = max(total, 1), 0
        self._sums = [0.0] * self._POINTS
        self._counts = [0] * self._POINTS

    def add(self, count: int, loss: float) -> None:
        """Add `count` more of the total, with their mean loss."""
        point = min(self._done * self._POINTS // self._total, self._POINTS - 1)
        self._sums[point] += count * loss
        self._counts[point] += count
        self._done += count

    def losses(self) -> list[float]:
        """Return at most twenty means; a twentieth without a step has none."""
        pairs = zip(self._sums, self._counts, strict=True)
        return [round(total / count, 5) for total, count in pairs if count]
