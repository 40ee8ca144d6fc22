"""Memory of work: its peak in a new process, the highest value of a figure, and what a process tree uses."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mtaw_fast.errors import MtawError
from mtaw_fast.system.memory_use import give_back_freed
from mtaw_fast.system.memory_use import peak_memory as resident_peak

_PROCESSES = Path("/proc")
_RESTART = _PROCESSES / "self/clear_refs"  # writing 5 there sets VmHWM to what is resident now
_LOOK = 0.05  # seconds between two looks at a process tree

Ready = Callable[[], None]


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """Resident bytes of a process. before: the peak at the start of the work; peak: the peak at its end."""

    before: int
    peak: int

    @property
    def added(self) -> int:
        """Bytes that the work itself added to the peak."""
        return self.peak - self.before


def peak_of_prepared(prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> PeakMemory:
    """Return the peak resident memory of calling what `prepare(*arguments)` returns, once, in a new process.

    What `prepare` still uses (inputs, loaded libraries) counts as `before`; what it has freed does not count. On a
    system that cannot restart its record of the peak (Linux can), an earlier, higher peak hides part of `added`.
    """
    return PeakMemory(*in_new_process(prepare.__name__, _prepared, prepare, arguments)[0])


def in_new_process(what: str, work: Callable[..., tuple[Any, ...]], *arguments: Any) -> tuple[tuple[Any, ...], int]:
    """Run `work(ready, *arguments)` in a new process.

    Returns
    -------
    tuple of (tuple, int)
        What `work` returns, and the most resident bytes of its process tree after it called `ready()` (0 without).

    Raises
    ------
    MtawError
        If the work fails or its process is killed; `what` names it in the message.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, work, arguments))
    process.start()
    sender.close()
    pid, tree = process.pid or 0, [0]
    try:
        outcome = receiver.recv()
        if outcome is None:
            with highest(lambda: tree_resident(pid), _LOOK) as tree:
                outcome = receiver.recv()
    except EOFError:
        process.join()
        raise MtawError(
            f"measuring {what}: its process ended early, with status {process.exitcode}; give it more memory or less "
            "work"
        ) from None
    finally:
        process.join()
        receiver.close()
    if isinstance(outcome, str):
        raise MtawError(f"measuring {what}: {outcome}")
    return outcome, tree[0]


def _child(sender: Connection, work: Callable[..., tuple[Any, ...]], arguments: tuple[Any, ...]) -> None:
    try:
        outcome = work(lambda: sender.send(None), *arguments)
    except BaseException as error:  # the parent must hear of every error
        sender.send(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}")
        raise SystemExit(1) from error
    sender.send(outcome)


def _prepared(_: Ready, prepare: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...]) -> tuple[int, int]:
    run = prepare(*arguments)
    restart_peak()
    before = resident_peak()
    run()
    return before, resident_peak()


def restart_peak() -> None:
    """Give freed memory back and restart `resident_peak`, on a system that can (Linux)."""
    gc.collect()
    give_back_freed()  # so that using its blocks again counts
    if _RESTART.exists():
        _RESTART.write_text("5")


@contextlib.contextmanager
def highest(look: Callable[[], int], seconds: float) -> Iterator[list[int]]:
    """Track the highest value of `look()` before, during and after the work, every `seconds`, on a thread.

    Yields a list with one element, the highest value so far.
    """
    peak, finished = [look()], threading.Event()

    def watch() -> None:
        while not finished.wait(seconds):
            peak[0] = max(peak[0], look())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        finished.set()
        watcher.join()
    peak[0] = max(peak[0], look())


def tree_resident(pid: int) -> int:
    """Return the resident bytes of a process and its descendants; ended ones count as nothing.

    Shared pages count for each process, so the sum is an upper bound.
    """
    total, pids = 0, [pid]
    while pids:
        folder = _PROCESSES / str(pids.pop())
        try:
            for line in (folder / "status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) << 10
            for task in (folder / "task").iterdir():
                pids += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total
