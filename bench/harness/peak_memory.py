"""Peak memory of a piece of work, measured in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mtaw_fast.errors import MtawError
from mtaw_fast.system.memory_use import give_back_freed
from mtaw_fast.system.memory_use import peak_memory as resident_peak

_RESTART = Path("/proc/self/clear_refs")  # writing 5 there restarts VmHWM at what is resident now


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
    return _in_fresh_process(_whole, work, arguments)


def peak_of_prepared(prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> PeakMemory:
    """Peak resident memory of what `prepare(*arguments)` returns, called once, in a fresh process.

    What `prepare` still holds (inputs, loaded libraries) counts as `before`; what it has freed counts as nothing.
    Where the system cannot restart its record of the peak (Linux can), an earlier, higher peak hides part of `added`.
    """
    return _in_fresh_process(_prepared, prepare, arguments)


def _in_fresh_process(
    measure: Callable[..., tuple[int, int]], work: Callable[..., Any], arguments: tuple[Any, ...]
) -> PeakMemory:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, measure, work, arguments))
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


def _whole(work: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[int, int]:
    before = resident_peak()
    work(*arguments)
    return before, resident_peak()


def _prepared(prepare: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...]) -> tuple[int, int]:
    run = prepare(*arguments)
    restart_peak()
    before = resident_peak()
    run()
    return before, resident_peak()


def restart_peak() -> None:
    """Give freed memory back and let `resident_peak` begin anew, where the system can (Linux)."""
    gc.collect()
    give_back_freed()  # so that using its blocks again counts
    if _RESTART.exists():
        _RESTART.write_text("5")


def _child(
    sender: Connection, measure: Callable[..., tuple[int, int]], work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    try:
        outcome = measure(work, arguments)
    except BaseException as error:  # the parent must hear of it, whatever it is
        sender.send(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}")
        raise SystemExit(1) from error
    sender.send(outcome)
