"""The memory's tables of a data set in one pass and in ranges of items: seconds and peak memory.

Each way runs in a fresh process. The peak is that of memory that cannot be given back (RssAnon): mapped files are left
out, the data set's and, of ranges, the finished tables. The resident peak (VmHWM) is told beside it. Every way must
give the same bits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.harness.highest import highest
from bench.harness.machine import describe, machine_record
from bench.harness.report import exit_code_of
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import MtawError
from mtaw_fast.memory import MemorySettings, MemoryTables
from mtaw_fast.memory.bounded import build_in_ranges, pass_bytes

_STATUS = Path("/proc/self/status")
_LOOK = 0.005  # seconds between two looks at the memory


def build(folder: Path, count: int, threads: int, outcome: Path) -> None:
    """Build in `count` ranges (0: one pass) and note what it took."""
    dataset = Dataset.load(folder)
    before = anonymous()
    began, used = time.perf_counter(), time.process_time()
    with highest(anonymous, _LOOK) as peak:
        if count:
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                tables = build_in_ranges(
                    dataset.train, dataset.n_items, MemorySettings(), count, Path(scratch), threads=threads
                )
        else:
            tables = MemoryTables.build(dataset.train, dataset.n_items, threads=threads)
        seconds, processor = time.perf_counter() - began, time.process_time() - used
    digest = hashlib.sha256()
    for name, array in sorted(tables.arrays().items()):
        digest.update(name.encode())
        digest.update(array.data)
    found = {
        "ranges": count or 1,
        "seconds": round(seconds, 2),
        "processor_seconds": round(processor, 2),
        "peak_mb": round((peak[0] - before) / 1e6),
        "resident_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "tables_mb": round(tables.n_bytes / 1e6),
        "sha256": digest.hexdigest(),
    }
    outcome.write_text(json.dumps(found))


def anonymous() -> int:
    """Bytes of this process that are no file's."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise MtawError(f"{_STATUS} does not tell RssAnon; run this bench on Linux")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; 1 where the bits differ, or what an error says."""
    parser = argparse.ArgumentParser(prog="python -m bench.prepare.ranges", description=__doc__)
    parser.add_argument("dataset", type=Path, help="folder made by 'mtaw-fast prepare'")
    parser.add_argument("--ranges", type=int, nargs="+", default=[4, 16, 64], help="how many, each measured")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(argv)
    try:
        dataset = Dataset.load(options.dataset)
    except MtawError as error:
        return exit_code_of(error)
    clicks, sessions, items = dataset.train.n_clicks, len(dataset.train), dataset.n_items
    need = pass_bytes(dataset.train, items, MemorySettings().resolved(sessions))
    print(f"{describe(machine_record())}\n{clicks:,} clicks, {sessions:,} sessions, {items:,} items; one pass is")
    print(f"bounded by {need.total / 1e6:,.0f} MB, {need.rows / 1e6:,.0f} of them rows; {options.threads} threads")
    first = None
    for count in (0, *options.ranges):
        with tempfile.TemporaryDirectory() as scratch:
            outcome = Path(scratch) / "outcome.json"
            work = multiprocessing.get_context("spawn").Process(
                target=build, args=(options.dataset, count, options.threads, outcome)
            )
            work.start()
            work.join()
            if work.exitcode:
                print(f"error: {count} ranges failed", file=sys.stderr)
                return 1
            found = json.loads(outcome.read_text())
        digest = found.pop("sha256")
        first = first or digest
        if digest != first:
            print(f"error: {count} ranges give other tables than one pass", file=sys.stderr)
            return 1
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
