"""The number of threads of a training, decided once at its start.

The C++ code (the loss, Adam, the memory's tables and features) gives small pieces of work to whichever thread is free,
with the same bits for any number of threads. PyTorch splits each operation into one share a thread and waits for the
last one, hundreds of times a step. Next to other busy processes each wait is for a thread that has lost its processor,
and the result depends on the number of shares. So the encoder's part of a step runs on one thread by default.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import torch

from mtaw_fast.errors import UsageError
from mtaw_fast.system.cpus import usable_cpus


@dataclass(frozen=True, slots=True)
class Threads:
    """Threads of a training.

    pieces: for the loss and the session memory. The result does not depend on it. encoder: for PyTorch in a step.
    Another number rounds differently.
    """

    pieces: int
    encoder: int = 1

    def __post_init__(self) -> None:
        for name, count in (("threads", self.pieces), ("encoder_threads", self.encoder)):
            if count < 1:
                raise UsageError(
                    f"{name} must be at least 1, not {count}; leave it out for all that this process may use"
                )

    @classmethod
    def of(cls, threads: int | None = None, encoder_threads: int = 1) -> Threads:
        """Return the threads asked for.

        threads: by default the CPUs that affinity and cgroup quota allow, and no more than PyTorch's setting
        (OMP_NUM_THREADS). encoder_threads: for PyTorch in a step.
        Raises UsageError if a number is below 1.
        """
        return cls(min(usable_cpus(), torch.get_num_threads()) if threads is None else threads, encoder_threads)

    def describe(self) -> str:
        """Return one line for the log."""
        return f"training threads: {self.pieces} for the loss and the session memory, {self.encoder} for the encoder"


_training: ContextVar[Threads | None] = ContextVar("threads of the current training", default=None)


def current_threads() -> Threads:
    """Return the threads of the current training, or `Threads.of()` outside of one."""
    return _training.get() or Threads.of()


@contextlib.contextmanager
def training_threads(threads: Threads) -> Iterator[None]:
    """Run a training, and PyTorch, with `threads`; PyTorch's former setting is restored at the end."""
    logging.getLogger("mtaw_fast").info(threads.describe())
    former, token = torch.get_num_threads(), _training.set(threads)
    torch.set_num_threads(threads.encoder)
    try:
        yield
    finally:
        torch.set_num_threads(former)
        _training.reset(token)
