"""How many threads a training takes, decided once at its start.

Work of our own in C++ (the loss, Adam, the memory's tables and features) goes in small pieces to whichever thread is
free, with the same bits for every number of them. PyTorch instead cuts each operation into one share a thread and waits
for the last at a barrier, hundreds of times a step: beside other busy processes each barrier waits for a thread that
has lost its processor, and what it computes depends on the number of shares. So the encoder's part of a step takes one
thread unless told otherwise.
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

    Attributes
    ----------
    pieces : int
        Of the loss and of the session memory. No bit of the result depends on it.
    encoder : int, default 1
        PyTorch's, in a step. Another number gives another rounding.
    """

    pieces: int
    encoder: int = 1

    def __post_init__(self) -> None:
        for name, count in (("threads", self.pieces), ("encoder_threads", self.encoder)):
            if count < 1:
                raise UsageError(f"{name} must be at least 1, not {count}; leave it out to take what this process may")

    @classmethod
    def of(cls, threads: int | None = None, encoder_threads: int = 1) -> Threads:
        """Those asked for.

        Parameters
        ----------
        threads : int, optional
            By default as many as this process may keep busy by its affinity and its cgroup's quota, and no more than
            PyTorch is set to (OMP_NUM_THREADS).
        encoder_threads : int, default 1
            PyTorch's in a step.

        Returns
        -------
        Threads

        Raises
        ------
        UsageError
            Where a number is below 1.
        """
        return cls(min(usable_cpus(), torch.get_num_threads()) if threads is None else threads, encoder_threads)

    def describe(self) -> str:
        """One line for the log."""
        return f"training threads: {self.pieces} for the loss and the session memory, {self.encoder} for the encoder"


_training: ContextVar[Threads | None] = ContextVar("threads of the training under way", default=None)


def current_threads() -> Threads:
    """Those of the training under way; outside of one, what `Threads.of()` gives."""
    return _training.get() or Threads.of()


@contextlib.contextmanager
def training_threads(threads: Threads) -> Iterator[None]:
    """Hold a training, and PyTorch meanwhile, to `threads`; PyTorch's setting of before comes back at the end.

    Parameters
    ----------
    threads : Threads
        What `current_threads` gives inside.
    """
    logging.getLogger("mtaw_fast").info(threads.describe())
    before, token = torch.get_num_threads(), _training.set(threads)
    torch.set_num_threads(threads.encoder)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _training.reset(token)
