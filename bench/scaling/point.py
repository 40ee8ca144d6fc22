"""One point of a curve, measured in a process of its own: seconds and processor seconds of a call, and peak memory."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import limit_threads
from bench.harness.highest import highest
from bench.harness.peak_memory import restart_peak
from bench.harness.process_tree import tree_resident
from mtaw_fast.errors import MtawError
from mtaw_fast.system.memory_use import peak_memory

_LOOK = 0.05  # seconds between two looks at the memory
_LIBRARIES = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # read as they load


@dataclass(frozen=True, slots=True)
class Setting:
    """What a point is measured at.

    Attributes
    ----------
    size : int
        Along the curve's axis.
    threads : int
        Of every library, and of ours.
    folder : Path
        Where a curve keeps what several points read.
    table_memory : int
        Bytes that building the memory's tables may take.
    d : int, default 100
        Of the vectors.
    """

    size: int
    threads: int
    folder: Path
    table_memory: int
    d: int = 100


@dataclass(frozen=True, slots=True)
class Work:
    """What is timed. call: does it once, for input number i. per: how many units a call does; seconds are of one.
    after: run once behind the timing. facts: what the row tells of the input."""

    call: Callable[[int], Any]
    per: int = 1
    after: Callable[[], Any] | None = None
    facts: dict[str, Any] | None = None


Make = Callable[[Setting], Work]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a point is timed: `calls` at least, and more of them until `seconds` have gone; `warm` calls before."""

    calls: int
    seconds: float
    warm: int = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """A point. seconds: of a unit, call by call. processor: seconds of a unit, all threads together. peak: resident
    bytes of the process and of those that it started, at most, while the work was done; its input counts, making that
    does not. load: the machine's when it ended."""

    seconds: list[float]
    processor: float
    peak: int
    load: float
    facts: dict[str, Any]


def measure(make: Make, setting: Setting, effort: Effort) -> Measured:
    """Measure a point in a fresh process. Raises MtawError with the reason where it fails or is killed."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, make, setting, effort))
    process.start()
    sender.close()
    assert process.pid is not None
    pid = process.pid
    what = f"{make.__name__} at {setting.size:,}"
    tree = [0]
    try:
        outcome = receiver.recv()
        if outcome is None:  # the input is made
            with highest(lambda: tree_resident(pid), _LOOK) as tree:
                outcome = receiver.recv()
    except EOFError:
        process.join()
        raise MtawError(
            f"measuring {what}: its process ended with status {process.exitcode} before its end; give it more memory "
            "or leave the size out"
        ) from None
    finally:
        process.join()
        receiver.close()
    if isinstance(outcome, str):
        raise MtawError(f"measuring {what}: {outcome}")
    seconds, processor, peak, facts = outcome
    return Measured(seconds, processor, max(tree[0], peak), round(os.getloadavg()[0], 2), facts)


def _child(sender: Connection, make: Make, setting: Setting, effort: Effort) -> None:
    for name in _LIBRARIES:
        os.environ[name] = str(setting.threads)
    try:
        with limit_threads(setting.threads):
            work = make(setting)
            restart_peak()
            sender.send(None)
            outcome: Any = timed(work, effort)
    except BaseException as error:  # the parent must hear of it, whatever it is
        sender.send(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}")
        raise SystemExit(1) from error
    sender.send(outcome)


def timed(work: Work, effort: Effort) -> tuple[list[float], float, int, dict[str, Any]]:
    """Call the work: seconds and processor seconds of a unit, resident bytes at most, the facts."""
    for number in range(effort.warm):
        work.call(number)
    seconds: list[float] = []
    began, used = time.perf_counter(), time.process_time()
    while len(seconds) < effort.calls or time.perf_counter() - began < effort.seconds:
        start = time.perf_counter()
        work.call(effort.warm + len(seconds))
        seconds.append((time.perf_counter() - start) / work.per)
    processor = (time.process_time() - used) / len(seconds) / work.per
    peak = peak_memory()
    if work.after is not None:
        work.after()
    return seconds, processor, peak, work.facts or {}


def spread(seconds: list[float]) -> float:
    """How uncertain the median is, as a share of it: one standard deviation, from the quartiles."""
    low, middle, high = np.percentile(seconds, [25, 50, 75])
    return float(1.25 * (high - low) / 1.349 / np.sqrt(len(seconds)) / middle)
