"""Memory: what this process may still take (less than is free, in a container), what it took, and giving it back."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from mtaw_fast.system.cpus import CGROUPS, OWN, folders_up

_MACHINE = Path("/proc/meminfo")
_STATUS = Path("/proc/self/status")


def available_memory(machine: Path = _MACHINE, cgroups: Path = CGROUPS, own: Path = OWN) -> int | None:
    """Bytes that the machine can still give without swapping, and the cgroup of this process still allows.

    Parameters
    ----------
    machine : Path
        /proc/meminfo, or a file like it.
    cgroups, own : Path
        As in `usable_cpus`.

    Returns
    -------
    int or None
        None where the system tells neither.
    """
    found = [*_of_machine(machine), *_of_cgroups(cgroups, own)]
    return max(min(found), 0) if found else None


def peak_memory(status: Path = _STATUS) -> int:
    """Bytes that this process has held at most, mapped files included as far as they were read.

    Parameters
    ----------
    status : Path
        /proc/self/status, or a file like it.
    """
    with contextlib.suppress(OSError):
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):  # ru_maxrss would begin at the peak of who started this process
                return int(line.split()[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10  # macOS counts bytes


def give_back_freed() -> bool:
    """Hand memory that was freed, and that the C library keeps for later, back to the system.

    glibc keeps what is small or lies between what is in use: gigabytes, after many arrays were made and dropped.

    Returns
    -------
    bool
        False where the C library knows no such call (it is glibc's).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return False
    trim(0)
    return True


def _of_machine(machine: Path) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for line in machine.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) << 10


def _of_cgroups(cgroups: Path, own: Path) -> Iterator[int]:
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            for folder in folders_up(cgroups, path):
                yield from _left(folder / "memory.max", folder / "memory.current")
        elif "memory" in controllers.split(","):
            for folder in folders_up(cgroups / "memory", path):
                yield from _left(folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes")


def _left(limit: Path, used: Path) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError):  # no limit: no such file, or 'max'
        yield int(limit.read_text()) - int(used.read_text())
