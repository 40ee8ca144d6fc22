"""A lock and an event that keep working in a forked process.

fork copies a locked lock but not the thread that locked it, so in the child nobody would release it. Here the child
starts with a free lock. So the guarded data must be valid at every point of a change, as with a single assignment.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType

_generation = 0  # number of forks between this process and the one that imported the module
_renewing = threading.Lock()


def _after_fork() -> None:
    global _generation, _renewing
    _generation += 1
    _renewing = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class ForkLock:
    """A mutex for `with`; not reentrant."""

    __slots__ = ("_born", "_lock")

    def __init__(self) -> None:
        self._born, self._lock = _generation, threading.Lock()

    def __enter__(self) -> None:
        if self._born != _generation:
            with _renewing:  # the child's threads must agree on one lock
                if self._born != _generation:
                    self._lock = threading.Lock()
                    self._born = _generation
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


class ForkEvent:
    """A `threading.Event` that keeps its state in a forked child, with a free lock inside."""

    __slots__ = ("_born", "_event")

    def __init__(self) -> None:
        self._born, self._event = _generation, threading.Event()

    def _own(self) -> threading.Event:
        if self._born != _generation:
            with _renewing:  # as in `ForkLock`
                if self._born != _generation:
                    event = threading.Event()
                    if self._event.is_set():
                        event.set()
                    self._event = event
                    self._born = _generation
        return self._event

    def set(self) -> None:
        """See `threading.Event`."""
        self._own().set()

    def clear(self) -> None:
        """See `threading.Event`."""
        self._own().clear()

    def is_set(self) -> bool:
        """See `threading.Event`."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """See `threading.Event`."""
        return self._own().wait(timeout)


# Held where numpy runs Python's own parser: CPython 3.11 fails if two threads are in it (gh-106905).
PARSING = ForkLock()
