"""This process's place in its group, and the collectives that exchange tensors with the others.

The all-reduce of a library adds in its own order, which changes with the size and the number of processes. Here the
parts travel unchanged, and each process adds them in float64 in the order of ranks. So every process and every run
gets the same bits, with gloo as with NCCL.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from mtaw_fast.training.group.channel import Channel, GroupError


@dataclass(frozen=True, slots=True, eq=False)
class ProcessGroup:
    """This process as a member of its group. rank: in 0 .. world - 1. device: where it computes."""

    rank: int
    world: int
    device: torch.device
    channel: Channel
    collectives: Collectives

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which does what only one process does."""
        return self.rank == 0


class Collectives:
    """Exchanges tensors; every process makes each call. Raises GroupError if a process is gone."""

    def __init__(self, rank: int, world: int) -> None:
        self._rank, self._world = rank, world

    def exchange(self, rows: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
        """Send every process its rows and return the rows that they send.

        rows: [sum(send), ..], by receiving rank. Returns [sum(receive), ..], by sending rank.
        """
        received = rows.new_empty(sum(receive), *rows.shape[1:])
        with _group_errors():
            dist.all_to_all_single(received, rows.contiguous(), list(receive), list(send))
        return received

    def gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the rows of every process, [sum(counts), ..] by rank. counts: the number of rows of each."""
        longest = max(counts)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        received = rows.new_empty(self._world, *padded.shape)
        with _group_errors():
            dist.all_gather(list(received.unbind(0)), padded)
        return torch.cat([part[:count] for part, count in zip(received, counts, strict=True)])

    def sum(self, part: Tensor) -> Tensor:
        """Return the sum of the parts of all processes, which have one shape."""
        received = part.new_empty(self._world, *part.shape)
        with _group_errors():
            dist.all_gather(list(received.unbind(0)), part.contiguous())
        return in_order(received)


def in_order(parts: Tensor) -> Tensor:
    """Return the sum over the first axis, added in order in float64: [..] in the dtype of the parts."""
    total = parts[0].double()
    for part in parts[1:]:
        total = total + part
    return total.to(parts.dtype)


@contextlib.contextmanager
def _group_errors() -> Iterator[None]:
    """Turn a RuntimeError of gloo, which has many lines, into a GroupError of one line."""
    try:
        yield
    except RuntimeError as error:
        line = (str(error).splitlines() or [""])[0]
        raise GroupError(line.partition("] ")[2].partition(". ")[0] or line) from None
