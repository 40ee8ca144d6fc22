"""Measure one point of a curve in its own process: seconds, processor seconds and peak memory of a call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import limit_threads
from bench.harness.peak_memory import in_new_process, restarted_peak
from mtaw_fast.system.memory_use import peak_memory

_LIBRARIES = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # read as they load


@dataclass(frozen=True, slots=True)
class Setting:
    """The setting of a point.

    size: the point's value on the curve's axis. threads: how many threads every library and our own code use. folder:
    keeps files that several points read. table_memory: how many bytes building the tables may use.
    """

    size: int
    threads: int
    folder: Path
    table_memory: int


@dataclass(frozen=True, slots=True)
class Work:
    """The work to time.

    call(i): does the work once, on input i. per: units of work in a call; seconds are per unit. after: runs once after
    the timing. facts: what the row says about the input.
    """

    call: Callable[[int], Any]
    per: int = 1
    after: Callable[[], Any] | None = None
    facts: dict[str, Any] | None = None


Make = Callable[[Setting], Work]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to time a point: at least `calls`, and more until `seconds` have passed, after `warm` untimed calls."""

    calls: int
    seconds: float
    warm: int = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurements of a point.

    seconds: elapsed seconds per unit of work, a value for each call. processor: processor seconds per unit, all threads
    together. peak: largest resident bytes during the work. The input is part of it; the memory that making the input
    took is not. load: the machine's load average at the end. facts: what the row says about the input.
    """

    seconds: list[float]
    processor: float
    peak: int
    load: float
    facts: dict[str, Any]


def measure(name: str, make: Make, setting: Setting, effort: Effort) -> Measured:
    """Measure a point in a new process. Raises MtawError with the reason if it fails or is killed."""
    return in_new_process(f"{name} at {setting.size:,}", _measured, make, setting, effort)


def _measured(make: Make, setting: Setting, effort: Effort) -> Measured:
    for name in _LIBRARIES:
        os.environ[name] = str(setting.threads)
    with limit_threads(setting.threads):
        return timed(make(setting), effort)


def timed(work: Work, effort: Effort) -> Measured:
    """Call and measure the work."""
    restarted_peak()
    for number in range(effort.warm):
        work.call(number)
    seconds: list[float] = []
    began, cpu_began = time.perf_counter(), time.process_time()
    while len(seconds) < effort.calls or time.perf_counter() - began < effort.seconds:
        start = time.perf_counter()
        work.call(effort.warm + len(seconds))
        seconds.append((time.perf_counter() - start) / work.per)
    processor = (time.process_time() - cpu_began) / len(seconds) / work.per
    peak = peak_memory()
    if work.after is not None:
        work.after()
    return Measured(seconds, processor, peak, round(os.getloadavg()[0], 2), work.facts or {})


def spread(seconds: list[float]) -> float:
    """Return the median's relative standard deviation, estimated from the quartiles."""
    low, middle, high = np.percentile(seconds, [25, 50, 75])
    return float(1.25 * (high - low) / 1.349 / np.sqrt(len(seconds)) / middle)
