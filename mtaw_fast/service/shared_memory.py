"""Memory that the processes of a service share: it has no name, so that nothing can remove it and nothing is left."""

from __future__ import annotations

import os
import tempfile
from multiprocessing import reduction
from typing import Any

from mtaw_fast.errors import MtawError


class SharedMemory:
    """An open file of zeros that is in no folder. descriptor: of this process.

    Passed to a process that is being spawned, it is open there too.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def make(cls, name: str, size: int) -> SharedMemory:
        """All of its `size` bytes are there: a page that is missing would end whoever touches it with SIGBUS.

        Raises MtawError where there is no room.
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
            raise MtawError(f"no room for {size} bytes of counters ({error.strerror}); free some memory") from None
        return cls(descriptor)

    def close(self) -> None:
        """Let go of it; whoever has mapped it keeps it."""
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
