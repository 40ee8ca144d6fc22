"""How many files, and so connections, a process may have open."""

from __future__ import annotations

import contextlib
import resource

_OTHERS = 64  # files of a worker that are no client's connections


def raise_file_limit() -> None:
    """Use what the system allows this process and those that it starts: the soft limit is often 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # where the hard limit is more than the system itself can do
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections(wanted: int) -> int:
    """How many connections this process can have, at most as many as wanted."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - _OTHERS))
