"""Tensors among the processes of a group, added up in the order of ranks alone.

An all-reduce of a library adds in an order of its own, which changes with the size and the number of processes. Here
parts travel as they are and are added up where they are needed, in float64 and by rank: the same bits in every process
and on every run, by gloo as by NCCL.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from mtaw_fast.training.group.channel import GroupError


class Collectives:
    """Of all processes; each call is made by every one of them. Raises GroupError where one is gone."""

    def __init__(self, rank: int, world: int) -> None:
        self._rank, self._world = rank, world

    def exchange(self, rows: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
        """Send every process its rows, and take what they send.

        rows: [sum(send), ..], by receiving rank. Returns [sum(receive), ..], by sending rank.
        """
        got = rows.new_empty(sum(receive), *rows.shape[1:])
        with _watched():
            dist.all_to_all_single(got, rows.contiguous(), list(receive), list(send))
        return got

    def gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Every process's rows, [sum(counts), ..] by rank, in every process; counts: how many each has."""
        most = max(counts)
        padded = rows.new_zeros(most, *rows.shape[1:])
        padded[: len(rows)] = rows
        got = rows.new_empty(self._world, *padded.shape)
        with _watched():
            dist.all_gather(list(got.unbind(0)), padded)
        return torch.cat([part[:count] for part, count in zip(got, counts, strict=True)])

    def sum(self, part: Tensor) -> Tensor:
        """The sum of every process's part, of one shape, in every process."""
        got = part.new_empty(self._world, *part.shape)
        with _watched():
            dist.all_gather(list(got.unbind(0)), part.contiguous())
        return in_order(got)


def in_order(parts: Tensor) -> Tensor:
    """The sum over the first axis, float64 from the first on: [..] in the parts' dtype."""
    total = parts[0].double()
    for part in parts[1:]:
        total = total + part
    return total.to(parts.dtype)


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """gloo's errors are plain RuntimeErrors, of many lines."""
    try:
        yield
    except RuntimeError as error:
        first = (str(error).splitlines() or [""])[0]
        raise GroupError(first.partition("] ")[2].partition(". ")[0] or first) from None
