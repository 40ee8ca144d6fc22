"""The cost of preparing a click log in partitions, each call in a new process, as on another machine.

Prints for each step its runs, its processor seconds and the highest peak of a process (VmHWM, with the interpreter),
then the disk space of the steps, and whether the result equals that of one process (--check).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness.machine import describe, machine_record
from bench.harness.peak_memory import highest
from bench.harness.report import command
from mtaw_fast.data.readers import clicks
from mtaw_fast.data.readers.partitioned_prepare import prepare_in_partitions
from mtaw_fast.errors import UsageError

_LOOK = 0.2  # seconds between two looks at the disk


@dataclass
class Steps:
    """An `Each` that runs every call in a new process. costs: by step, processor seconds and peak of each call."""

    costs: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def each(self, function: Callable[..., Any], calls: Iterable[Sequence[Any]]) -> list[Any]:
        """A `TaskRunner`."""
        context = multiprocessing.get_context("spawn")
        results = []
        for call in calls:
            with ProcessPoolExecutor(1, context) as pool:
                result, seconds, peak = pool.submit(measured, function, call).result()
            self.costs.setdefault(function.__name__.strip("_"), []).append((seconds, peak))
            results.append(result)
        return results


def measured(function: Callable[..., Any], call: Sequence[Any]) -> tuple[Any, float, int]:
    """Return a call's result, its processor seconds and the peak of this process."""
    began = time.process_time()
    result = function(*call)
    return result, time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return 1 if the bits differ."""
    parser = argparse.ArgumentParser(prog="python -m bench.prepare.partitions", description=__doc__)
    parser.add_argument("log", type=Path, help="with the columns of mtaw_fast.data.synthetic_log")
    parser.add_argument("--partitions", type=int)
    parser.add_argument("--check", action="store_true", help="also prepare it in one process and compare")
    options = parser.parse_args(argv)
    return _measure(options.log, options.partitions, options.check)


def disk_bytes(folder: Path) -> int:
    """Return the bytes of all files below the folder; files may appear and vanish meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(parent) / name).stat().st_size
    return total


def _measure(log: Path, partitions: int | None, check: bool) -> int:
    if not log.exists():
        raise UsageError(f"{log} does not exist; name a click log")
    print(describe(machine_record()))
    steps = Steps()
    with tempfile.TemporaryDirectory(dir=log.parent) as name:
        folder = Path(name) / "parts"
        began, cpu_began = time.perf_counter(), time.process_time()
        with highest(lambda: disk_bytes(folder), _LOOK) as disk:
            report = prepare_in_partitions(log, folder, partitions=partitions, run_tasks=steps.each)
        seconds, driver_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        for step, costs in steps.costs.items():
            total, peak = sum(cost for cost, _ in costs), max(peak for _, peak in costs)
            print(f"{step:10} {len(costs):4} calls {total:8.2f} s {total / report.rows * 1e6:7.3f} s a million rows "
                  f"{peak / 1e6:8.0f} MB")  # fmt: skip
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        per_million = driver_seconds / report.rows * 1e6
        print(
            f"{'driver':10}            {driver_seconds:8.2f} s {per_million:7.3f} s a million rows {peak / 1e6:8.0f} MB"
        )
        print(f"{report.rows:,} rows, log {log.stat().st_size / 1e6:,.0f} MB, disk {disk[0] / 1e6:,.0f} MB "
              f"at most, {seconds:.0f} s on the clock")  # fmt: skip
        if check:
            clicks.read(log).save(Path(name) / "one")
            single, parts = (json.loads((Path(name) / kind / "manifest.json").read_text()) for kind in ("one", "parts"))
            ours, theirs = parts["files"], single["files"]
            same = all(ours[part]["sha256"] == theirs[part]["sha256"] for part in theirs)
            same &= ours["train"]["bytes"] == theirs["train"]["bytes"]
            same &= all(parts[key] == single[key] for key in single if key not in ("files", "format_version"))
            print("the same set as of one process" if same else "error: another set than of one process")
            return 0 if same else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
