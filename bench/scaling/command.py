"""How time and memory grow: with the catalog, the log, a session's clicks, a batch and the threads.

python -m bench.scaling [--only CASE,..] [--sizes N,..] [--quick] [--json FILE] [--folder DIR]

Every point is measured in its own process. With --json FILE each point is saved at once, and the same command
continues with the missing ones. Cases may run at the same time and share FILE.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.machine import usable_cores
from bench.harness.report import Report, Row, bench_parser, command, parse, whole_numbers
from bench.scaling.curves import CURVES, UNITS, Curve
from bench.scaling.kept import BENCH, Kept, fitted
from bench.scaling.point import Measured, Setting, measure, spread
from mtaw_fast.errors import MtawError, UsageError

_PEAK = "peak_mb"


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return 1 if a point failed."""
    parser = bench_parser(BENCH, (__doc__ or "").splitlines()[0], "two small sizes of every case: about two minutes")
    parser.add_argument("--only", metavar="CASE[,CASE]", help=f"of {', '.join(dict.fromkeys(c.name for c in CURVES))}")
    parser.add_argument("--sizes", metavar="N[,N]", help="these sizes instead of the cases' own")
    parser.add_argument("--d", type=int, metavar="N", help="of the curves over the catalog, those with N dimensions")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="keep logs, data sets and tables there (default: a temporary folder)",
    )
    parser.add_argument(
        "--memory",
        type=float,
        default=6.0,
        metavar="GB",
        help="leave out sizes that take more (default: 6); building tables uses at most half of it",
    )
    options = parse(parser, argv)
    curves = chosen(options.only, options.d)
    sizes = whole_numbers("--sizes", options.sizes) if options.sizes else []
    if options.memory <= 0:
        raise UsageError(f"--memory {options.memory:g}: give gigabytes above 0")
    if options.folder is not None and not options.folder.is_dir():
        raise UsageError(f"--folder {options.folder}: it does not exist; make it first")
    report = Report(BENCH, options.quick)
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-scaling-") as name:
        folder = options.folder or Path(name)
        for curve in curves:
            curve_sizes = sizes or (curve.quick if options.quick else curve.sizes)
            _measure(curve, curve_sizes, Kept(options.json, report), folder, int(options.memory * 1e9), report)
    return _finish(report, options)


def chosen(only: str | None, d: int | None = None) -> list[Curve]:
    """Return the curves that --only and --d select; UsageError if there are none."""
    names = None if only is None else [name for name in only.split(",") if name]
    known = dict.fromkeys(curve.name for curve in CURVES)
    for name in names or ():
        if name not in known:
            raise UsageError(f"--only {only}: there is no case {name!r}; the cases are {', '.join(known)}")
    selected = [
        curve for curve in CURVES if (names is None or curve.name in names) and d in (None, curve.fixed.get("d"))
    ]
    if not selected:
        raise UsageError("--only and --d leave no case")
    return selected


def _measure(curve: Curve, sizes: Sequence[int], kept: Kept, folder: Path, memory: int, report: Report) -> None:
    recorded = {row["params"][curve.axis] for row in kept.rows(curve.name, curve.axis, curve.fixed)}
    for size in sizes:
        if size in recorded:
            continue
        params = {**curve.fixed, curve.axis: size}
        if curve.axis == "threads" and size > usable_cores():
            kept.leave_out(curve.name, params, f"this machine has {usable_cores()} cores")
            continue
        if curve.needs(size) > memory:
            reason = f"it takes some {curve.needs(size) / 1e9:.1f} GB, --memory allows {memory / 1e9:g}"
            kept.leave_out(curve.name, params, reason)
            print(f"{curve.name} at {size:,}: left out, {reason}", flush=True)
            continue
        threads = size if curve.axis == "threads" else curve.fixed["threads"]
        setting = Setting(size, threads, folder, memory // 2, curve.fixed.get("d", 100))
        try:
            measured = measure(curve.make, setting, curve.effort)
        except MtawError as error:
            report.refuse(str(error))
            continue
        kept.add([row.as_json() for row in rows_of(curve, params, measured)])
        wall, processor = (
            UNITS[curve.unit] * seconds for seconds in (float(np.median(measured.seconds)), measured.processor)
        )
        print(
            f"{curve.name} at {size:,}: {wall:.4g} {curve.unit} (processor {processor:.4g}), "
            f"peak {measured.peak / 1e6:,.0f} MB, load {measured.load}",
            flush=True,
        )
    rows = kept.rows(curve.name, curve.axis, curve.fixed)
    for metric in dict.fromkeys(row["metric"] for row in rows):
        metric_rows = [row for row in rows if row["metric"] == metric]
        if len(metric_rows) > 1:
            report.notes.append(f"{curve.name} {_fixed(curve)}, {metric}: {curve.axis}^{fitted(metric_rows)}")
    report.records[:] = kept.results


def _fixed(curve: Curve) -> str:
    return ", ".join(f"{name} {value}" for name, value in curve.fixed.items())


def rows_of(curve: Curve, params: dict[str, Any], found: Measured) -> list[Row]:
    """Return a point's rows: time on the clock, processor time, and peak memory of its processes together."""
    unit = UNITS[curve.unit]
    times = np.array(found.seconds) * unit
    wall, high, higher = (float(np.percentile(times, share, method="inverted_cdf")) for share in (50, 95, 99))
    extra = {
        "along": curve.axis,
        "what": curve.what,
        "load": found.load,
        **({"facts": found.facts} if found.facts else {}),
    }

    def row(metric: str, values: tuple[float, float, float], n: int, error: float) -> Row:
        return Row(
            BENCH, curve.name, params, metric, *values, n, None, None, None, None, {**extra, "spread": round(error, 4)}
        )

    def alone(metric: str, value: float) -> Row:
        return row(metric, (value, value, value), 1, 0.0)

    return [
        row(curve.metric, (wall, high, higher), len(times), spread(found.seconds)),
        alone(f"processor_{curve.unit}", found.processor * unit),
        alone(_PEAK, found.peak / 1e6),
    ]


def _finish(report: Report, options: argparse.Namespace) -> int:
    code = report.finish(None)
    if options.json is not None:
        print(f"wrote {options.json}")
    return code
