"""The peak memory of work in a new process."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from mtaw_fast.errors import MtawError
from mtaw_fast.system.memory_use import give_back_freed, peak_memory

_RESTART = Path("/proc/self/clear_refs")  # writing 5 there sets VmHWM to what is resident now


def peak_of_prepared(prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> int:
    """Return the bytes that calling what `prepare(*arguments)` returns, once, adds to the peak of a new process.

    What `prepare` has freed, or still uses (inputs, loaded libraries), does not count.
    """
    return in_new_process(prepare.__name__, _added, prepare, arguments)


def in_new_process(what: str, work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `work(*arguments)` returns in a new process; MtawError, which names `what`, if that fails."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(work, *arguments).result()
        except BrokenProcessPool:
            reason = "its process ended early; give it more memory or less work"
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    raise MtawError(f"measuring {what}: {reason}")


def _added(prepare: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...]) -> int:
    run = prepare(*arguments)
    before = restarted_peak()
    run()
    return peak_memory() - before


def restarted_peak() -> int:
    """Give freed memory back and restart `peak_memory`, on a system that can (Linux); return it."""
    gc.collect()
    give_back_freed()  # so that using its blocks again counts
    if _RESTART.exists():
        _RESTART.write_text("5")
    return peak_memory()
