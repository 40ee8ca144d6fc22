"""How much memory this process may still take: less than the machine has free, in a container."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mtaw_fast.storage.cpus import CGROUPS, OWN, folders_up

_MACHINE = Path("/proc/meminfo")


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
