"""The sizes that a loss is measured at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LossShape:
    """The shape of a loss. rows: B. items: N. It is picklable; the same shape makes the same inputs anywhere."""

    rows: int
    items: int
    d: int = 100
    scale: float = 16.0
    gamma: float = 2.0
    seed: int = 0

    def describe(self) -> str:
        """Return 'batch B, N items, gamma g'."""
        return f"batch {self.rows}, {self.items} items, gamma {self.gamma:g}"
