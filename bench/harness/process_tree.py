"""What a process and all that it started hold in memory."""

from __future__ import annotations

from pathlib import Path

_PROCESSES = Path("/proc")


def tree_resident(pid: int) -> int:
    """Resident bytes of a process and its descendants together; those that have ended count as nothing.

    Pages that several of them share count for each, so that it is no less than what they take.
    """
    total, left = 0, [pid]
    while left:
        one = _PROCESSES / str(left.pop())
        try:
            for line in (one / "status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) << 10
            for task in (one / "task").iterdir():
                left += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total
