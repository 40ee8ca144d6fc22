"""What the processes of a group say to one another beside their tensors: over the store, with waits of any length.

A collective of gloo or NCCL fails after minutes, which is right between steps that all take at once. One process that
fits a ranker for an hour, or writes a checkpoint of 150 GB, is waited for here instead: the store is asked now and then
whether the word has come. A process that fails says so here too, and torchrun ends those that wait for one that cannot.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

from torch.distributed import Store

from mtaw_fast.errors import TrainingError

_FIRST_PAUSE = 0.002  # seconds between two looks, which grow
_LONGEST_PAUSE = 0.5
_FAILED = "failed"


class GroupError(TrainingError):
    """Another process of the group has failed or is gone.

    told: whether yet another one tells of it already.
    """

    told = False

    def __init__(self, why: str = "") -> None:
        super().__init__(
            f"another process of the group has ended ({why or 'killed, or its machine is gone'}); the last whole epoch "
            "is kept: torchrun --max-restarts goes on there by itself, --resume by hand"
        )


class Channel:
    """One process's end. All call `settle` and `hear` or `say` in the same order."""

    def __init__(self, store: Store, rank: int, world: int) -> None:
        self._store, self._rank, self._world = store, rank, world
        self._said = self._settled = 0

    def say(self, value: Any) -> None:
        """Tell the others a JSON value; of rank 0."""
        self._set(f"word/{self._said}", json.dumps(value))
        self._said += 1

    def hear(self) -> Any:
        """Wait, however long, for what rank 0 says next. Raises GroupError where a process fails meanwhile."""
        name = f"word/{self._said}"
        self._said += 1
        self._wait([name])
        return json.loads(self._get(name))

    def share(self, value: Any) -> Any:
        """Rank 0's value, in every process."""
        if self._rank == 0:
            self.say(value)
            return value
        return self.hear()

    def settle(self, value: Any = None) -> list[Any]:
        """Wait, however long, until every process has come here; returns their values, by rank."""
        names = [f"settled/{self._settled}/{rank}" for rank in range(self._world)]
        self._settled += 1
        self._set(names[self._rank], json.dumps(value))
        self._wait(names)
        return [json.loads(self._get(name)) for name in names]

    def leave(self) -> None:
        """Say that this process asks the store no more."""
        self._set(f"left/{self._rank}", "")

    def wait_for_leavers(self, seconds: float = 30.0) -> None:
        """Wait until all others have left, at most so long: they may have died."""
        until = time.monotonic() + seconds
        names = [f"left/{rank}" for rank in range(1, self._world)]
        while names and not self._there(names) and time.monotonic() < until:
            time.sleep(_FIRST_PAUSE)

    def fail(self, why: str) -> None:
        """Tell those who wait that this process cannot go on."""
        try:
            self._set(_FAILED, why)
        except GroupError:
            return  # nobody is there to be told

    def first_to_tell(self) -> bool:
        """Whether no other process has asked this before, which all see the same end."""
        with contextlib.suppress(RuntimeError):
            return self._store.add("told", 1) == 1
        return self._rank == 0

    def failure(self, seconds: float) -> str | None:
        """What a process that failed has said, waiting so long for it; None where none has."""
        until = time.monotonic() + seconds
        while not self._there([_FAILED]):
            if time.monotonic() > until:
                return None
            time.sleep(_LONGEST_PAUSE / 5)
        return self._get(_FAILED)

    def _wait(self, names: list[str]) -> None:
        pause = _FIRST_PAUSE
        while not self._there(names):
            if self._there([_FAILED]):
                raise GroupError(self._get(_FAILED))
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)

    # The store's errors are RuntimeErrors: it is gone, and with it the process that kept it.

    def _there(self, names: list[str]) -> bool:
        try:
            return self._store.check(names)
        except RuntimeError:
            raise GroupError from None

    def _get(self, name: str) -> str:
        try:
            return self._store.get(name).decode()
        except RuntimeError:
            raise GroupError from None

    def _set(self, name: str, value: str) -> None:
        try:
            self._store.set(name, value)
        except RuntimeError:
            raise GroupError from None
