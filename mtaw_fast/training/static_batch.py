"""A batch in buffers that never move: padded to one of a few sizes, so that a captured step can run again on it.

Axes: T clicks, B sessions, S samples, all of the budget; a batch fills the first of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mtaw_fast.errors import UsageError
from mtaw_fast.training.batch import Batch

_RUNGS = 4  # sizes up to a full batch
_STAGED = 4  # batches whose copies to the device may be under way


class Budget(NamedTuple):
    """clicks: T, and as many sessions; rows: S."""

    clicks: int
    rows: int

    @classmethod
    def for_batch(cls, batch: Batch, batch_prefixes: int) -> Budget:
        """The least budget that holds the batch: whole quarters of a full batch, of clicks and of rows.

        Nearly all batches of an epoch are nearly full, so few budgets come up.
        """
        rung = -(-batch_prefixes // _RUNGS)
        return cls(*(max(1, -(-len(part) // rung)) * rung for part in (batch.clicks, batch.rows)))


class StaticInputs(NamedTuple):
    """A batch as the step sees it. clicks: int64[T]; offsets: int64[T + 1]; rows, targets: int64[S]; n_rows: int64[1].

    Inert clicks are sessions of one click each, of item 0; then come sessions of none. Inert rows ask for item 0
    after click 0 and have the weight 0, so nothing inert reaches a gradient.
    """

    clicks: Tensor
    offsets: Tensor
    rows: Tensor
    targets: Tensor
    n_rows: Tensor

    def weights(self) -> Tensor:
        """float32[S]: 1 for the batch's rows, 0 for the inert ones; computed where the inputs are."""
        return (torch.arange(len(self.rows), device=self.rows.device) < self.n_rows).float()


@dataclass(frozen=True, slots=True, eq=False)
class _Staging:
    """Host memory that a copy to the device reads, and the event after that copy."""

    numbers: Tensor
    copied: torch.cuda.Event | None


class StaticBatch:
    """The buffers of one budget; `load` fills them, in the order of the current stream."""

    def __init__(self, budget: Budget, device: torch.device) -> None:
        self.budget = budget
        sizes = _sizes(budget)
        on_gpu = device.type == "cuda"
        self._numbers = torch.zeros(sum(sizes), dtype=torch.int64, device=device)
        self.inputs = StaticInputs(*self._numbers.split(sizes))
        self._staging = [
            _Staging(
                torch.zeros(sum(sizes), dtype=torch.int64, pin_memory=on_gpu), torch.cuda.Event() if on_gpu else None
            )
            for _ in range(_STAGED if on_gpu else 1)
        ]
        self._loads = 0

    def load(self, batch: Batch) -> None:
        """Copy a batch in host memory here. Waits only where the copy of several batches before is not through."""
        staging = self._staging[self._loads % len(self._staging)]
        self._loads += 1
        if staging.copied is not None:
            staging.copied.synchronize()
        fill(StaticInputs(*staging.numbers.split(_sizes(self.budget))), batch)
        self._numbers.copy_(staging.numbers, non_blocking=True)
        if staging.copied is not None:
            staging.copied.record()


def fill(inputs: StaticInputs, batch: Batch) -> None:
    """Write a batch and its padding; UsageError where it does not fit."""
    clicks, sessions, rows = len(batch.clicks), len(batch.offsets) - 1, len(batch.rows)
    budget = Budget(len(inputs.clicks), len(inputs.rows))
    if clicks > budget.clicks or rows > budget.rows:
        raise UsageError(
            f"a batch of {clicks} clicks and {rows} samples does not fit into {budget.clicks} and {budget.rows}"
        )
    inert = budget.clicks - clicks
    inputs.clicks[:clicks] = batch.clicks
    inputs.clicks[clicks:] = 0
    inputs.offsets[: sessions + 1] = batch.offsets
    inputs.offsets[sessions + 1 : sessions + 1 + inert] = torch.arange(clicks + 1, budget.clicks + 1)
    inputs.offsets[sessions + 1 + inert :] = budget.clicks
    for buffer, values in ((inputs.rows, batch.rows), (inputs.targets, batch.targets)):
        buffer[:rows] = values
        buffer[rows:] = 0
    inputs.n_rows[0] = rows


def _sizes(budget: Budget) -> list[int]:
    return [budget.clicks, budget.clicks + 1, budget.rows, budget.rows, 1]
