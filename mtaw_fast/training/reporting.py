"""How a training tells of its progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Reporter(Protocol):
    """LossStats of progress; all methods are called from the training thread.

    A training has phases (`mtaw_fast.config.phases`), and each has pieces of work in epochs: those of its own name, and what
    comes before them ('ranker, ranker_dataset').
    """

    def phase_starts(self, phase: str, number: int, phases: int) -> None:
        """Begin phase `number`, from 1, of so many."""
        ...

    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None:
        """Begin an epoch, from 1, of so many, over so many sessions (samples, clicks)."""
        ...

    def step_done(self, sessions: int, loss: float) -> None:
        """So many more sessions of the epoch are done."""
        ...

    def epoch_ends(self, record: Mapping[str, Any]) -> None:
        """An epoch that was trained has ended; the record is the history's."""
        ...


class Silent:
    """A reporter that says nothing."""

    def phase_starts(self, phase: str, number: int, phases: int) -> None: ...
    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None: ...
    def step_done(self, sessions: int, loss: float) -> None: ...
    def epoch_ends(self, record: Mapping[str, Any]) -> None: ...


class Several:
    """A reporter that tells others, in order."""

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


class Trace:
    """The mean losses of an epoch's twentieths, whose curve shows more than the epoch's mean alone."""

    _POINTS = 20

    def __init__(self, total: int) -> None:
        self._total, self._done = max(total, 1), 0
        self._sums = [0.0] * self._POINTS
        self._counts = [0] * self._POINTS

    def add(self, count: int, loss: float) -> None:
        """So many more of the total are done, with that mean loss."""
        place = min(self._done * self._POINTS // self._total, self._POINTS - 1)
        self._sums[place] += count * loss
        self._counts[place] += count
        self._done += count

    def losses(self) -> list[float]:
        """At most twenty, those without a step left out."""
        pairs = zip(self._sums, self._counts, strict=True)
        return [round(total / count, 5) for total, count in pairs if count]
