"""How many processors this process may use; in a container this may be fewer than the host has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cpus(cgroups: Path = CGROUPS, own_cgroups: Path = OWN) -> int:
    """Return the whole processors that this process can use: by its affinity, and by the CPU quota of its cgroup.

    At least 1. A quota of 1.5 processors counts as 1: a second thread would wait half of the time.

    cgroups: the mount point of the cgroup hierarchies (version 1: one folder a controller; version 2: the folder
    itself). own_cgroups: the file with the cgroups of this process, one line a hierarchy: `number:controllers:path`.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([float(allowed), *_quotas(cgroups, own_cgroups)])))


def _quotas(cgroups: Path, own_cgroups: Path) -> Iterator[float]:
    for version, folder in own_folders("cpu", cgroups, own_cgroups):
        yield from _of_version_2(folder) if version == 2 else _of_version_1(folder)


def own_folders(controller: str, cgroups: Path, own_cgroups: Path) -> Iterator[tuple[int, Path]]:
    """Yield version and folder of this process's cgroup and of all its parents, in the hierarchies of a controller."""
    try:
        lines = own_cgroups.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        roots = [cgroups] if not controllers else []
        if controller in controllers.split(","):
            roots = [cgroups / controllers, cgroups / controller]
        for root in roots:
            folder = root / path.lstrip("/")
            # In a container the root may itself be the cgroup.
            for place in (folder, *(parent for parent in folder.parents if parent == root or root in parent.parents)):
                yield 1 if controllers else 2, place


def _of_version_2(folder: Path) -> Iterator[float]:
    match _words(folder / "cpu.max"):
        case [quota, period] if quota != "max":
            yield int(quota) / int(period)


def _of_version_1(folder: Path) -> Iterator[float]:
    match _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us"):
        case [quota], [period] if int(quota) > 0:
            yield int(quota) / int(period)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # no limit there
        return []
