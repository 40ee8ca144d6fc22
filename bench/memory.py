"""Peak memory of a piece of work, measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mtaw_fast.errors import MtawError

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """Resident bytes of a process. before: the peak when the work began (interpreter, imports); peak: at its end."""

    before: int
    peak: int

    @property
    def added(self) -> int:
        """What the work itself added to the peak."""
        return self.peak - self.before


def peak_memory(work: Callable[..., Any], *arguments: Any) -> PeakMemory:
    """Run `work(*arguments)` in a fresh process and return its peak resident memory.

    `work` must be importable (a function of a module). Raises MtawError with the reason where it fails or is killed.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, work, arguments))
    process.start()
    sender.close()
    try:
        outcome = receiver.recv()
    except EOFError:
        process.join()
        raise MtawError(
            f"measuring {work.__name__}: its process ended with status {process.exitcode} before its end; "
            "give it more memory or less work"
        ) from None
    finally:
        process.join()
        receiver.close()
    if isinstance(outcome, str):
        raise MtawError(f"measuring {work.__name__}: {outcome}")
    return PeakMemory(*outcome)


def resident_peak() -> int:
    """Peak resident bytes of this process so far.

    Linux's ru_maxrss survives exec: it starts at the PARENT's peak in a child that a big process starts. VmHWM belongs
    to the address space and starts anew, so it is used where there is one.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _child(sender: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    before = resident_peak()
    try:
        work(*arguments)
    except BaseException as error:  # the parent must hear of it, whatever it is
        sender.send(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}")
        raise SystemExit(1) from error
    sender.send((before, resident_peak()))
