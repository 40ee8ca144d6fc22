"""All benches as one suite: run them, keep their results, compare two runs, draw the results.

python -m bench                       list the benches
python -m bench all [--quick] [--only NAME,..] [--repeat N] [--results DIR]
python -m bench compare OLD NEW [--threshold SHARE] [--any-machine]
python -m bench report [OUT.html] [--machine CLASS] [--results DIR]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.harness.report import chosen, command
from bench.suite.catalog import BENCHES, BY_HAND
from bench.suite.comparing import THRESHOLD, compare_runs
from bench.suite.results import RESULTS, read_run, read_runs
from mtaw_fast.errors import UsageError


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of the suite; return 1 if a bench failed or a ratio got worse, 2 on misuse."""
    options = _parser().parse_args(argv)
    return options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=(__doc__ or "").splitlines()[0],
        epilog="example: python -m bench all --quick --only throughput.encoder,retrieval",
    )
    parser.set_defaults(run=_list)
    commands = parser.add_subparsers(title="commands (none: list the benches)", metavar="COMMAND")

    run = commands.add_parser(
        "all",
        help="run the benches and keep their results",
        description="Run every bench in its own process and keep all rows in one file: "
        "RESULTS/<machine class>/<date>-<commit>.json. A bench that cannot run here is skipped with the reason.",
        epilog="example: python -m bench all --quick",
    )
    run.add_argument("--quick", action="store_true", help="the smallest case of each: minutes, to check that they run")
    run.add_argument("--only", metavar="NAME[,NAME]", help="these benches alone")
    run.add_argument(
        "--repeat", type=int, default=1, metavar="N",
        help="run each in N processes, apart in time, whose differences widen the intervals (default: 1)",
    )  # fmt: skip
    run.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="(default: bench/results)")
    run.set_defaults(run=_all)

    compare = commands.add_parser(
        "compare",
        help="list the ratios that changed between two result files",
        description="Compare the ratios of two runs, each against a peer timed in the same process; times are never "
        "compared. Exit 1 if a ratio fell by more than the threshold and its 95% interval excludes 1.",
        epilog="example: python -m bench compare old.json new.json --threshold 0.1",
    )
    compare.add_argument("old", type=Path, metavar="OLD", help="a file of 'bench all' or of a bench's --json")
    compare.add_argument("new", type=Path, metavar="NEW", help="the later one")
    compare.add_argument(
        "--threshold", type=float, default=THRESHOLD, metavar="SHARE",
        help=f"the share by which a ratio may fall (default: {THRESHOLD})",
    )  # fmt: skip
    compare.add_argument("--any-machine", action="store_true", help="compare machines of two classes")
    compare.set_defaults(run=_compare)

    report = commands.add_parser(
        "report",
        help="draw the results on one HTML page",
        description="One self-contained HTML page with a chart for all results, and a PNG of each chart: OUT-NAME.png. "
        "Full runs count before quick ones, later before earlier.",
        epilog="example: python -m bench report bench.html",
    )
    report.add_argument(
        "out", type=Path, nargs="?", metavar="OUT", help="the page (default: report.html next to the results)"
    )
    report.add_argument("--machine", metavar="CLASS", help="of several machine classes, this one")
    report.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="(default: bench/results)")
    report.set_defaults(run=_report)
    return parser


def _list(_: argparse.Namespace) -> int:
    width = max(map(len, (*(bench.name for bench in BENCHES), *BY_HAND)))
    print("python -m bench.NAME runs one, 'python -m bench all' runs all:")
    for bench in BENCHES:
        reason = "needs a GPU" if bench.gpu else bench.why_not()
        print(f"  {bench.name:{width}}  {bench.line}{'' if reason is None else f' ({reason})'}")
    print("on your own data:")
    for name, line in BY_HAND.items():
        print(f"  {name:{width}}  {line}")
    return 0


def _all(options: argparse.Namespace) -> int:
    if options.repeat < 1:
        raise UsageError(f"--repeat {options.repeat}: give the number of processes of each bench, at least 1")
    from bench.suite.running import Suite

    names = chosen("--only", options.only, [bench.name for bench in BENCHES], "bench")
    return Suite(options.quick, options.results, options.repeat).run([b for b in BENCHES if b.name in names])


def _report(options: argparse.Namespace) -> int:
    from bench.suite.page import write_page

    classes = sorted({path.parent.name for path in options.results.glob("*/*.json")})
    name = options.machine or (classes[0] if len(classes) == 1 else None)
    if not classes:
        raise UsageError(f"{options.results} holds no results; 'python -m bench all' makes some")
    if name is None or name not in classes:
        raise UsageError(f"{options.results} holds results of {', '.join(classes)}: choose one with --machine")
    page = options.out or options.results / name / "report.html"
    runs = read_runs((options.results / name).glob("*.json"))
    for path in write_page(runs, page):
        print(f"wrote {path}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    if not 0 < options.threshold < 1:
        raise UsageError(f"--threshold {options.threshold:g}: give a share between 0 and 1, such as {THRESHOLD}")
    worse, lines = compare_runs(read_run(options.old), read_run(options.new), options.threshold, options.any_machine)
    print("\n".join(lines))
    if worse:
        print("slower than before, see above", file=sys.stderr)
    return int(worse)


if __name__ == "__main__":
    raise SystemExit(main())
