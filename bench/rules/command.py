"""Rankings under rules against plain ones: filters of every selectivity, five rules, rules after the last click.

python -m bench.rules [--quick] [--items N,..] [--bundle FOLDER] [--json FILE]
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.harness.comparison import Plan, limit_threads
from bench.harness.report import Report, bench_parser, command, parse, say
from bench.harness.workload import Workload, from_bundle, generated
from bench.rules.cases import RuleCases
from mtaw_fast.errors import UsageError

SIZES = "40727,1000000"
QUICK_SIZES = "5000"

_PLAN = Plan(rounds=150, burst=4, settle=2, seconds=12.0)
_QUICK = Plan(rounds=20, burst=2, settle=1, seconds=2.0, min_rounds=3)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an answer was wrong)."""
    parser = bench_parser("rules", (__doc__ or "").splitlines()[0])
    parser.add_argument("--items", metavar="N,..", help=f"sizes of generated catalogs (default: {SIZES})")
    parser.add_argument(
        "--bundle", type=Path, metavar="FOLDER", help="a trained bundle instead; it gets random columns"
    )
    options = parse(parser, argv)
    sizes = options.items or (QUICK_SIZES if options.quick else SIZES)
    if not all(size.isdecimal() for size in sizes.split(",")):
        raise UsageError(f"--items {sizes!r}: give sizes such as 40727,1000000")
    report = Report("rules", options.quick)
    with limit_threads(1), tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as folder:
        for workload in _workloads(options.bundle, [int(size) for size in sizes.split(",")], Path(folder)):
            cases = RuleCases(workload, _QUICK if options.quick else _PLAN)
            for case in cases.all():
                say(f"measuring {case.name}, {workload.bundle.n_items} items")
                report.run(case)
    return report.finish(options.json)


def _workloads(bundle: Path | None, sizes: Sequence[int], folder: Path) -> Iterator[Workload]:
    if bundle is not None:
        yield from_bundle(bundle)
        return
    for size in sizes:
        yield generated(size, folder / f"bundle-{size}")
