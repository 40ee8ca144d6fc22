"""Memory use: what this process may still allocate (less than is free, in a container), its peak, and freeing it."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from mtaw_fast.system.cpus import CGROUPS, OWN, own_folders

_MEMINFO = Path("/proc/meminfo")
_STATUS = Path("/proc/self/status")


def available_memory(meminfo: Path = _MEMINFO, cgroups: Path = CGROUPS, own_cgroups: Path = OWN) -> int | None:
    """Return the bytes that this host can still give without swapping and the cgroup of this process still allows.

    None if the system reports neither. meminfo: /proc/meminfo, or a file like it. cgroups, own_cgroups: as in
    `usable_cpus`.
    """
    limits = [*_of_host(meminfo), *_of_cgroups(cgroups, own_cgroups)]
    return max(min(limits), 0) if limits else None


def peak_memory(status: Path = _STATUS) -> int:
    """Return the largest number of bytes that this process has used, including the mapped files that it has read.

    status: /proc/self/status, or a file like it.
    """
    with contextlib.suppress(OSError):
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):  # ru_maxrss starts at the peak of the parent
                return int(line.split()[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10  # macOS counts bytes


def give_back_freed() -> bool:
    """Return freed memory that the C library keeps for later to the system.

    glibc keeps small blocks and blocks between used ones: gigabytes, after many arrays were made and dropped.

    Returns False if the C library is not glibc, which alone has the call.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return False
    trim(0)
    return True


def _of_host(meminfo: Path) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) << 10


def _of_cgroups(cgroups: Path, own_cgroups: Path) -> Iterator[int]:
    for version, folder in own_folders("memory", cgroups, own_cgroups):
        if version == 2:
            yield from _bytes_left(folder / "memory.max", folder / "memory.current")
        else:
            yield from _bytes_left(folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes")


def _bytes_left(limit: Path, used: Path) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError):  # no limit: no such file, or 'max'
        yield int(limit.read_text()) - int(used.read_text())
