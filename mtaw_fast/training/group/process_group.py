"""A process's place in its group, and its ways to the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mtaw_fast.training.group.channel import Channel
from mtaw_fast.training.group.collectives import Collectives


@dataclass(frozen=True, slots=True, eq=False)
class ProcessGroup:
    """rank: of this process, in 0 .. world - 1; rank 0 leads. device: where it computes."""

    rank: int
    world: int
    device: torch.device
    channel: Channel
    collectives: Collectives

    @property
    def leads(self) -> bool:
        """Whether this process makes what is made once."""
        return self.rank == 0
