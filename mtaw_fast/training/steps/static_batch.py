"""A batch in buffers that never move, padded to one of a few sizes, so that a captured step can run on it again.

Axes: T clicks, B sessions, S samples of the budget; a batch fills the first of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mtaw_fast.errors import UsageError
from mtaw_fast.kernels.prefix_interest import Tiles
from mtaw_fast.kernels.prefix_interest.configs import DEFAULT_TILE_CLICKS
from mtaw_fast.training.steps.batch import Batch

_STEPS = 4  # sizes up to a full batch
_WIDE = 6  # fields of 64 bits


class Budget(NamedTuple):
    """The sizes of a batch's arrays. clicks: T, which is also the number of sessions. rows: S."""

    clicks: int
    rows: int

    @classmethod
    def for_batch(cls, batch: Batch, batch_prefixes: int) -> Budget:
        """Return the smallest budget for the batch, in quarters of a full batch of clicks and of rows.

        Nearly all batches of an epoch are nearly full, so there are few budgets.
        """
        unit = -(-batch_prefixes // _STEPS)
        return cls(*(max(1, -(-len(part) // unit)) * unit for part in (batch.clicks, batch.rows)))

    @property
    def tiles(self) -> int:
        """How many tiles T clicks need at most.

        Best fit leaves at most one tile less than half full. The tiles of a long session count together.
        """
        return 2 * -(-self.clicks // DEFAULT_TILE_CLICKS) + 1

    @property
    def sizes(self) -> list[int]:
        """The length of each array of `StaticInputs`: six of 64 bits, then four of 32; the last three are `tiles`."""
        slots = self.tiles * DEFAULT_TILE_CLICKS
        return [self.clicks, self.clicks + 1, self.rows, self.rows, 1, 1, self.rows, slots, slots, 2 * self.tiles]

    @property
    def numbers(self) -> int:
        """The size of the buffer in int32 numbers."""
        return 2 * sum(self.sizes[:_WIDE]) + sum(self.sizes[_WIDE:])


@dataclass(frozen=True, slots=True, eq=False)
class StaticInputs:
    """A batch as the step sees it: views of one buffer.

    clicks: int64[T]; offsets: int64[T + 1]; rows, targets: int64[S]. seed: int64[1], of the step's dropout.
    mass: float64[1] and weights: float32[S], as in `Batch`, 1 without weights. tiles: the plan of the offsets, int32.

    Padding clicks are sessions of one click on item 0; then come empty sessions. Padding rows have the target 0 after
    click 0 and the weight 0, so padding never reaches a gradient.
    """

    clicks: Tensor
    offsets: Tensor
    rows: Tensor
    targets: Tensor
    seed: Tensor
    mass: Tensor
    weights: Tensor
    tiles: Tiles

    @classmethod
    def of(cls, buffer: Tensor, budget: Budget) -> StaticInputs:
        """Views of int32[`budget.numbers`], whose 64-bit numbers come first."""
        wide, narrow = budget.sizes[:_WIDE], budget.sizes[_WIDE:]
        clicks, offsets, rows, targets, seed, mass = buffer[: 2 * sum(wide)].view(torch.int64).split(wide)
        weights, slot_click, slot_begin, tile_range = buffer[2 * sum(wide) :].split(narrow)
        tiles = Tiles(slot_click, slot_begin, tile_range.view(-1, 2), DEFAULT_TILE_CLICKS, budget.clicks)
        return cls(clicks, offsets, rows, targets, seed, mass.view(torch.float64), weights.view(torch.float32), tiles)

    def fill(self, batch: Batch) -> None:
        """Write a batch and its padding, without a seed; raises UsageError if it does not fit."""
        clicks, sessions, rows = len(batch.clicks), len(batch.offsets) - 1, len(batch.rows)
        budget = Budget(len(self.clicks), len(self.rows))
        if clicks > budget.clicks or rows > budget.rows:
            raise UsageError(
                f"a batch of {clicks} clicks and {rows} samples does not fit into {budget.clicks} and {budget.rows}"
            )
        padding = budget.clicks - clicks
        self.clicks[:clicks] = batch.clicks
        self.clicks[clicks:] = 0
        self.offsets[: sessions + 1] = batch.offsets
        self.offsets[sessions + 1 : sessions + 1 + padding] = torch.arange(clicks + 1, budget.clicks + 1)
        self.offsets[sessions + 1 + padding :] = budget.clicks
        for buffer, values in ((self.rows, batch.rows), (self.targets, batch.targets)):
            buffer[:rows] = values
            buffer[rows:] = 0
        self.weights[:rows] = 1 if batch.weights is None else batch.weights
        self.weights[rows:] = 0
        self.seed[0], self.mass[0] = 0, batch.mass
        plan = Tiles.of(self.offsets.numpy(), "cpu", min_tiles=budget.tiles)
        for name in ("slot_click", "slot_begin", "tile_range"):
            getattr(self.tiles, name).copy_(getattr(plan, name))


@dataclass(frozen=True, slots=True, eq=False)
class StagedBatch:
    """A batch, padded in host memory for the buffers of a budget. mass: the batch's."""

    static: StaticBatch
    buffer: Tensor
    mass: float

    def load(self, seed: int) -> None:
        """Start its copy to the device, with the step's dropout seed, in the order of the current stream."""
        StaticInputs.of(self.buffer, self.static.budget).seed[0] = seed
        self.static.buffer.copy_(self.buffer, non_blocking=True)  # torch keeps pinned memory until it is copied


class StaticBatch:
    """The buffers of one budget on the device."""

    def __init__(self, budget: Budget, device: torch.device) -> None:
        self.budget = budget
        self.buffer = torch.zeros(budget.numbers, dtype=torch.int32, device=device)
        self.inputs = StaticInputs.of(self.buffer, budget)

    def stage(self, batch: Batch) -> StagedBatch:
        """Pad a batch in host memory; may be called from another thread than `StagedBatch.load`."""
        buffer = torch.empty(self.budget.numbers, dtype=torch.int32, pin_memory=self.buffer.is_cuda)
        StaticInputs.of(buffer, self.budget).fill(batch)
        return StagedBatch(self, buffer, batch.mass)
