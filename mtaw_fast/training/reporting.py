"""How a training tells of its progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Reporter(Protocol):
    """Told of progress; all methods are called from the training thread."""

    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None: ...
    def step_done(self, sessions: int, loss: float) -> None: ...
    def epoch_ends(self, record: Mapping[str, Any]) -> None: ...


class Silent:
    """A reporter that says nothing."""

    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None: ...
    def step_done(self, sessions: int, loss: float) -> None: ...
    def epoch_ends(self, record: Mapping[str, Any]) -> None: ...
