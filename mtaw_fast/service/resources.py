"""What a process takes from the operating system: shared memory, open files, and threads for slow work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import tempfile
import threading
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any, TypeVar

from mtaw_fast.errors import MtawError

T = TypeVar("T")

_NICENESS = 5  # of slow work
_OTHER_FILES = 64  # open files of a worker that are not connections of clients


class SharedMemory:
    """Memory that the processes of a service share: an open file without a name.

    Nothing can remove it, and nothing is left of it at the end. When it is passed to a process that is being spawned,
    it is open there too. descriptor: of the file, in this process.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def make(cls, name: str, size: int) -> SharedMemory:
        """Return `size` bytes of zeros, all allocated now: touching a missing page later would raise SIGBUS.

        Raises MtawError if there is not enough memory.
        """
        try:
            descriptor = _open(name)
            try:
                zeros = memoryview(bytes(size))
                while zeros:
                    zeros = zeros[os.write(descriptor, zeros) :]
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise MtawError(
                f"no memory for {size} bytes of shared memory ({error.strerror}); free some memory"
            ) from None
        return cls(descriptor)

    def close(self) -> None:
        """Close the file; processes that have mapped it keep the memory."""
        os.close(self.descriptor)

    def __getstate__(self) -> Any:
        return reduction.DupFd(self.descriptor)

    def __setstate__(self, passed: Any) -> None:
        self.descriptor = passed.detach()


def _open(name: str) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:  # not on Linux
        return os.dup(file.fileno())


def raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit, for this process and its children; it is often 1,024."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # the hard limit may be more than the system itself allows
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def connection_limit(limit: int) -> int:
    """Return how many connections this process can have open, at most `limit`."""
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft_limit == resource.RLIM_INFINITY:
        return limit
    return max(1, min(limit, soft_limit - _OTHER_FILES))


async def in_background(work: Callable[[], T]) -> T:
    """Run slow `work` in a thread of its own, at a lower priority than requests; return its result or raise its error.

    The thread does not keep the process alive.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        with contextlib.suppress(OSError, AttributeError):  # only Linux has a niceness of single threads
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            result = work()
        except BaseException as error:  # whatever it is, the caller gets it
            failure = error
            _deliver(loop, outcome, lambda: outcome.set_exception(failure))
        else:
            _deliver(loop, outcome, lambda: outcome.set_result(result))

    threading.Thread(target=run, daemon=True).start()
    return await outcome


def _deliver(loop: asyncio.AbstractEventLoop, outcome: asyncio.Future[T], settle: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(lambda: None if outcome.done() else settle())
