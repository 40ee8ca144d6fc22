"""Groups whose processes are threads: the same code over another store and other collectives."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed import HashStore

from mtaw_fast.config import Config
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.group.channel import Channel
from mtaw_fast.training.group.process_group import ProcessGroup, in_order
from mtaw_fast.training.group.shards import Shards
from mtaw_fast.training.group.step import GroupStepper

Result = TypeVar("Result")
CPU = torch.device("cpu")
_TIMEOUT = 60.0  # seconds


class SharedValues:
    """Exchanges values between the threads of a group. turn: locked by the thread that computes, if only one may at a
    time (Triton's interpreter)."""

    def __init__(self, world: int, in_turn: bool) -> None:
        self.turn = threading.Lock() if in_turn else contextlib.nullcontext()
        self._barrier = threading.Barrier(world, timeout=_TIMEOUT)
        self._values: list[Any] = [None] * world

    def all_of(self, rank: int, value: Any) -> list[Any]:
        self.turn.__exit__(None, None, None)
        try:
            self._barrier.wait()
            self._values[rank] = value
            self._barrier.wait()
            return list(self._values)
        finally:
            self.turn.__enter__()

    def abort(self) -> None:
        self._barrier.abort()


class ThreadCollectives:
    """`Collectives` among threads."""

    def __init__(self, rank: int, values: SharedValues) -> None:
        self._rank, self._shared = rank, values

    def exchange(self, rows: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
        assert len(rows) == sum(send)
        parts = self._shared.all_of(self._rank, rows.clone().split(list(send)))
        received = [part[self._rank] for part in parts]
        assert [len(part) for part in received] == list(receive)
        return torch.cat(received)

    def gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        parts = self._shared.all_of(self._rank, rows.clone())
        assert [len(part) for part in parts] == list(counts)
        return torch.cat(parts)

    def sum(self, part: Tensor) -> Tensor:
        return in_order(torch.stack(self._shared.all_of(self._rank, part.clone())))


def in_threads(
    world: int, work: Callable[[ProcessGroup], Result], device: torch.device = CPU, in_turn: bool = False
) -> list[Result]:
    """What `work` returns in every process of a group, by rank."""
    store, values = HashStore(), SharedValues(world, in_turn)

    def run(rank: int) -> Result:
        torch.set_num_threads(1)
        process_group = ProcessGroup(rank, world, device, Channel(store, rank, world), ThreadCollectives(rank, values))  # type: ignore[arg-type]
        try:
            with values.turn:
                return work(process_group)
        except BaseException:
            values.abort()
            raise

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(run, range(world)))


def shard_stepper(config: Config, start: MTAW, process_group: ProcessGroup) -> GroupStepper:
    """A process's stepper, with the weights of a whole model."""
    n_items = len(start.item_embedding)
    shards = Shards(n_items, process_group.world)
    rows = shards.rows(process_group.rank)
    model = MTAW(config, rows.stop - rows.start).to(process_group.device).train()
    with torch.no_grad():
        for (name, weights), whole in zip(model.named_parameters(), start.parameters(), strict=True):
            weights.copy_(whole[rows] if name == "item_embedding" else whole)
    return GroupStepper(model, config, shards, process_group)
