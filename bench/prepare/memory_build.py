"""The memory tables: the time to build them from a click log, the cost of an update, their size and peak memory.

python -m bench.prepare.memory_build [--quick] [--clicks N] [--threads N] [--data FOLDER] [--json FILE]

Two generated logs: `clusters`, whose items follow each other as in a shop (`mtaw_fast.data.synthetic`), and `random`,
whose clicks are independent, so that nearly every pair of items is a new one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import Case, Contender, Plan
from bench.harness.floors import read_floor
from bench.harness.machine import usable_cores
from bench.harness.peak_memory import peak_of_prepared
from bench.harness.report import Line, Report, bench_parser, command, parse, say
from bench.memory_reference.tables import build_reference
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import generate, workload
from mtaw_fast.errors import UsageError
from mtaw_fast.memory import MemorySettings, MemoryTables

_BENCH = "memory_build"  # in the rows
_CLICKS = 10_000_000
_QUICK_CLICKS = 1_000_000
_CATALOGS = {"clusters": 200_000, "random": 1_000_000}
_MEAN_LENGTH = {"clusters": 5.6, "random": 2.7}  # a bit below what the generators give
_LIMIT_SECONDS, _LIMIT_BYTES = 60.0, 4_000_000_000  # for up to _CLICKS clicks
_CUTS = (128, 256, 512, 0)
_CHECKED_SESSIONS = 1500
_DAY = 0.01  # of the sessions come and go in an update
_PLAN = Plan(rounds=3, burst=1, settle=0, warmup=0, seconds=60.0, min_rounds=2)
_QUICK_PLAN = Plan(rounds=5, burst=1, settle=0, warmup=0, seconds=8.0, min_rounds=3)
_CUT_PLAN = Plan(rounds=7, burst=1, settle=0, warmup=1, seconds=20.0, min_rounds=3)


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Sessions over N items, and their name in a row."""

    name: str
    sessions: Sessions
    n_items: int

    @classmethod
    def generated(cls, name: str, clicks: int) -> Log:
        """Return a log of about `clicks` clicks; equal arguments give equal logs."""
        n_items = max(_CATALOGS[name] * clicks // _CLICKS, 1000)
        n_sessions = int(clicks / _MEAN_LENGTH[name])
        if name == "clusters":
            return cls(name, generate(n_items, n_sessions, test_fraction=1e-6).train, n_items)
        return cls(name, workload(n_items, n_sessions, seed=0), n_items)

    def params(self, tables: MemoryTables, threads: int) -> dict[str, Any]:
        """Return what a row says about the tables built from it."""
        return {
            "data": self.name,
            "catalog": self.n_items,
            "sessions": len(self.sessions),
            "clicks": self.sessions.n_clicks,
            "max_neighbours": tables.settings.max_neighbors,  # prose: ignore
            "pairs": len(tables.neighbors),
            "threads": threads,
        }

    def build(self, settings: MemorySettings | None, threads: int, _: int = 0) -> MemoryTables:
        """Build the tables of the whole log. The last argument is the number of the call, which a `Contender` gets."""
        return MemoryTables.build(self.sessions, self.n_items, settings, threads=threads)


def build_case(log: Log, threads: int, plan: Plan) -> tuple[Case, MemoryTables]:
    """Compare all threads with one; both give the same tables, and the first sessions give the reference's."""
    first = log.sessions.slice(0, _CHECKED_SESSIONS)
    expected = build_reference(first, log.n_items, MemorySettings())
    tables = log.build(None, threads)
    threads_of = {"ours": threads, "one-thread": 1}

    def check(contender: Contender) -> str | None:
        n_threads = threads_of[contender.name]
        error = difference(MemoryTables.build(first, log.n_items, threads=n_threads), expected)
        return error or difference(contender.run(0), tables)

    ours, *others = (Contender(name, partial(log.build, None, count)) for name, count in threads_of.items())
    floor = read_floor(tables.n_bytes, "the tables' bytes", repeats=5)
    return Case("build", log.params(tables, threads), "build_s", ours, others, check, plan, floor), tables


def update_case(log: Log, threads: int, plan: Plan) -> Case:
    """Compare adding and removing a hundredth of the sessions with building everything again."""
    count = len(log.sessions)
    day = max(int(_DAY * count), 1)
    settings = MemorySettings().resolved(count)
    older = MemoryTables.build(log.sessions.slice(0, count - day), log.n_items, settings, threads=threads)
    new, remaining = log.sessions.slice(count - day, count), log.sessions.slice(day, count)

    def rebuild(_: int) -> MemoryTables:
        return MemoryTables.build(remaining, log.n_items, settings, threads=threads)

    expected = rebuild(0)
    params = {**log.params(expected, threads), "appended": day, "expired": day}
    return Case(
        "update",
        params,
        "update_s",
        Contender("ours", lambda _: older.update(new, day, threads=threads)),
        [Contender("rebuild", rebuild)],
        lambda contender: difference(contender.run(0), expected),
        plan,
    )


def difference(ours: MemoryTables, expected: MemoryTables) -> str | None:
    """Return the first array that is not equal to the bit, or None."""
    for name, array in expected.arrays().items():
        if not np.array_equal(ours.arrays()[name], array):
            return f"the tables differ in '{name}'"
    return None


def prepare_build(name: str, clicks: int, threads: int) -> Callable[[], MemoryTables]:
    """Make the log and return the function that builds its tables, to measure in its own process."""
    return partial(Log.generated(name, clicks).build, None, threads)


def _measure_generated(report: Report, name: str, options: argparse.Namespace) -> bool:
    """Measure a log; return False if up to 10^7 clicks took a minute or 4 GB."""
    plan = _QUICK_PLAN if options.quick else _PLAN
    say(f"measuring {name}: generating {options.clicks:,} clicks")
    log = Log.generated(name, options.clicks)
    say(f"measuring {name}: building")
    case, tables = build_case(log, options.threads, plan)
    built = report.run(case)
    sizes = {"tables_mb": tables.n_bytes / 1e6}
    del tables, case
    say(f"measuring {name}: updating")
    report.run(update_case(log, options.threads, plan))
    params = {} if built is None else dict(built.case.params)
    del log
    say(f"measuring {name}: peak memory")
    memory = peak_of_prepared(prepare_build, name, options.clicks, options.threads)
    sizes |= {"peak_mb": memory.peak / 1e6, "added_mb": memory.added / 1e6}
    if built is None:
        return True  # the refusal is reported already
    report.lines += [Line.of_value(_BENCH, "build", params, *size) for size in sizes.items()]
    within = built.ours.median < _LIMIT_SECONDS and memory.peak < _LIMIT_BYTES
    return within or options.clicks > _CLICKS


def _measure_cuts(report: Report, log: Log, threads: int) -> None:
    """Time and size of the tables of a data set's training sessions at each cut of the neighbors."""
    for cut in _CUTS:
        settings = MemorySettings(max_neighbors=cut)
        tables = log.build(settings, threads)
        params = log.params(tables, threads)
        row_lengths = np.diff(tables.row_offsets)
        params["longest_row"] = int(row_lengths.max())
        ours = Contender("ours", partial(log.build, settings, threads))

        def check(contender: Contender, expected: MemoryTables = tables) -> str | None:
            return difference(contender.run(0), expected)

        report.run(Case("cut", params, "build_s", ours, [], check, _CUT_PLAN))
        report.lines.append(Line.of_value(_BENCH, "cut", params, "tables_mb", tables.n_bytes / 1e6))


def _run(options: argparse.Namespace) -> int:
    report = Report(_BENCH, options.quick)
    within = True
    if options.data is None:
        for name in _CATALOGS:
            within &= _measure_generated(report, name, options)
    else:
        dataset = Dataset.load(options.data)
        _measure_cuts(report, Log(dataset.name, dataset.train, dataset.n_items), options.threads)
    code = report.finish(options.json)
    if not within:
        print(f"error: over {_LIMIT_SECONDS:.0f} s or {_LIMIT_BYTES / 1e9:.0f} GB", file=sys.stderr)
        return 1
    return code


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return 1 if an answer was wrong or up to 10^7 clicks took a minute or 4 GB."""
    parser = bench_parser("prepare.memory_build", (__doc__ or "").splitlines()[0])
    parser.add_argument("--clicks", type=int, metavar="N", help="of each log (default 10000000; --quick: 1000000)")
    parser.add_argument("--threads", type=int, default=usable_cores(), metavar="N", help="default: all")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="instead, the cuts of the neighbors on a data set made by 'prepare'",
    )
    options = parse(parser, argv)
    if options.clicks is None:
        options.clicks = _QUICK_CLICKS if options.quick else _CLICKS
    if options.clicks < 10_000 or options.threads < 1:
        raise UsageError("--clicks must be at least 10000 and --threads at least 1")
    return _run(options)


if __name__ == "__main__":
    raise SystemExit(main())
