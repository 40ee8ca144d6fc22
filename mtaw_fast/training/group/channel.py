"""Messages between the processes of a group: JSON values over the store, with waits of any length.

A collective of gloo or NCCL fails after minutes, which is right between steps. The channel is for what takes longer:
rank 0 fits a ranker for an hour, or all write a checkpoint of 150 GB. A waiting process polls the store. A process
that fails reports it here, and torchrun ends the processes that wait for one that is gone.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

from torch.distributed import Store

from mtaw_fast.errors import TrainingError

_FIRST_PAUSE = 0.002  # seconds between two polls; it grows
_LONGEST_PAUSE = 0.5
_FAILED = "failed"


class GroupError(TrainingError):
    """Another process of the group has failed or is gone.

    reported: whether another process prints the error already.
    """

    reported = False

    def __init__(self, why: str = "") -> None:
        super().__init__(
            f"another process of the group has ended ({why or 'killed, or its machine is gone'}); the last whole epoch "
            "is kept: torchrun --max-restarts continues there by itself, --resume by hand"
        )


class Channel:
    """One process's end. All processes call `gather`, and `send` or `receive`, in the same order."""

    def __init__(self, store: Store, rank: int, world: int) -> None:
        self._store, self._rank, self._world = store, rank, world
        self._messages = self._gathers = 0

    def send(self, value: Any) -> None:
        """Send a JSON value from rank 0 to the others."""
        self._set(f"message/{self._messages}", json.dumps(value))
        self._messages += 1

    def receive(self) -> Any:
        """Wait for the next value of rank 0, for any time. Raises GroupError if a process fails meanwhile."""
        name = f"message/{self._messages}"
        self._messages += 1
        self._wait([name])
        return json.loads(self._get(name))

    def gather(self, value: Any = None) -> list[Any]:
        """Wait until every process is here, for any time; returns their values by rank."""
        names = [f"gather/{self._gathers}/{rank}" for rank in range(self._world)]
        self._gathers += 1
        self._set(names[self._rank], json.dumps(value))
        self._wait(names)
        return [json.loads(self._get(name)) for name in names]

    def leave(self) -> None:
        """Report that this process needs the store no more."""
        self._set(f"left/{self._rank}", "")

    def wait_for_leavers(self, seconds: float = 30.0) -> None:
        """Wait until all others have left, at most so long: they may have died."""
        deadline = time.monotonic() + seconds
        names = [f"left/{rank}" for rank in range(1, self._world)]
        while names and not self._exists(names) and time.monotonic() < deadline:
            time.sleep(_FIRST_PAUSE)

    def report_failure(self, why: str) -> None:
        """Let the waiting processes know that this one cannot continue."""
        with contextlib.suppress(GroupError):  # the store is gone, and with it those who would read this
            self._set(_FAILED, why)

    def first_to_report(self) -> bool:
        """Whether this process is the first to ask; only that one prints the error that all have."""
        with contextlib.suppress(RuntimeError):
            return self._store.add("reporters", 1) == 1
        return self._rank == 0

    def failure(self, seconds: float) -> str | None:
        """Return the reason that a failed process gave, waiting at most so long; None without one."""
        deadline = time.monotonic() + seconds
        while not self._exists([_FAILED]):
            if time.monotonic() > deadline:
                return None
            time.sleep(_LONGEST_PAUSE / 5)
        return self._get(_FAILED)

    def _wait(self, names: list[str]) -> None:
        pause = _FIRST_PAUSE
        while not self._exists(names):
            if self._exists([_FAILED]):
                raise GroupError(self._get(_FAILED))
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)

    def _exists(self, names: list[str]) -> bool:
        with _store_errors():
            return self._store.check(names)

    def _get(self, name: str) -> str:
        with _store_errors():
            return self._store.get(name).decode()

    def _set(self, name: str, value: str) -> None:
        with _store_errors():
            self._store.set(name, value)


@contextlib.contextmanager
def _store_errors() -> Iterator[None]:
    """A RuntimeError of the store means that it is gone, and with it the process that hosts it."""
    try:
        yield
    except RuntimeError:
        raise GroupError from None
