"""What a process takes from the operating system: memory that processes share, and open files."""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
from multiprocessing import reduction
from typing import Any

from mtaw_fast.errors import MtawError

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
            raise MtawError(f"no memory for {size} bytes of counters ({error.strerror}); free some memory") from None
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
