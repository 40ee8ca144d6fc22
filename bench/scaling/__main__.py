"""How time and memory grow: with the catalog, the log, a session's clicks, a batch and the threads.

python -m bench.scaling [--only CASE,..] [--sizes N,..] [--quick] [--json FILE] [--folder DIR]

Every point is measured in its own process. With --json FILE each point is saved at once, and the same command
continues with the missing ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.harness.machine import usable_cores
from bench.harness.powers import power_of
from bench.harness.report import Report, Row, bench_parser, chosen, command, parse, whole_numbers
from bench.scaling.curves import CURVES, Curve
from bench.scaling.point import Measured, Setting, measure, spread
from mtaw_fast.errors import DataError, MtawError, UsageError
from mtaw_fast.storage.files import read_json, write_json

BENCH = "scaling"
_UNITS = {"us": 1e6, "ms": 1e3, "s": 1.0}
Record = Mapping[str, Any]


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return 1 if a point failed."""
    parser = bench_parser(BENCH, __doc__, "two small sizes of every case: about two minutes")
    names = [curve.name for curve in CURVES]
    parser.add_argument("--only", metavar="CASE[,CASE]", help=f"of {', '.join(names)}")
    parser.add_argument("--sizes", metavar="N[,N]", help="these sizes instead of the cases' own")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="keep logs, data sets and tables there (default: a temporary folder)"
    )
    parser.add_argument(
        "--memory", type=float, default=6.0, metavar="GB",
        help="leave out sizes that take more (default: 6); building tables uses at most half of it",
    )  # fmt: skip
    options = parse(parser, argv)
    wanted = chosen("--only", options.only, names)
    sizes = whole_numbers("--sizes", options.sizes) if options.sizes else []
    if options.memory <= 0:
        raise UsageError(f"--memory {options.memory:g}: give gigabytes above 0")
    if options.folder is not None and not options.folder.is_dir():
        raise UsageError(f"--folder {options.folder}: it does not exist; make it first")
    report = Report(BENCH, options.quick)
    kept = Kept(options.json, report)
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-scaling-") as name:
        for curve in CURVES:
            if curve.name in wanted:
                curve_sizes = sizes or (curve.sizes[:2] if options.quick else curve.sizes)
                _measure(curve, curve_sizes, kept, options.folder or Path(name), int(options.memory * 1e9), report)
    code = report.finish(None)
    if options.json is not None:
        print(f"wrote {options.json}")
    return code


class Kept:
    """Rows of a result file, and records of what was left out; without a path they stay in memory.

    Raises DataError if the file is not a result of this bench at this commit on this machine.
    """

    def __init__(self, path: Path | None, report: Report) -> None:
        self._path, self._report, self._quick = path, report, report.quick
        self._results: list[Record] = []
        if path is None or not path.exists():
            return
        value = read_json(path, DataError)
        results = value.get("results") if isinstance(value, dict) else None
        if not isinstance(results, list) or any(result.get("bench") != BENCH for result in results):
            raise DataError(f"{path}: no result of this bench; name another file")
        commit, theirs, ours = report.commit, value["machine"], report.machine
        if value.get("commit") != commit:
            raise DataError(f"{path}: its points are of commit {value.get('commit')}, not {commit}; name another file")
        if any(theirs.get(name) != ours[name] for name in ("cpu", "cpu_family", "cpu_model", "cores")):
            raise DataError(f"{path}: its points are of another machine; name another file")
        self._quick = self._quick and bool(value.get("quick"))  # one whole run makes it no quick file
        self._results = results

    def rows(self, curve: Curve) -> list[Record]:
        """Return the rows of a curve, in order of size."""
        rows = [row for row in self._results if row["case"] == curve.name and "p50" in row]
        return sorted(rows, key=lambda row: row["params"][curve.axis])

    def add(self, results: Sequence[Record]) -> None:
        """Keep rows of a point, or the record of why it is missing, and write the file."""
        point = results[0]["case"], results[0]["params"]
        self._results = [result for result in self._results if (result["case"], result["params"]) != point]
        self._results += results
        if self._path is not None:
            write_json(self._path, {**self._report.as_json(), "quick": self._quick, "results": self._results})


def _measure(curve: Curve, sizes: Sequence[int], kept: Kept, folder: Path, memory: int, report: Report) -> None:
    recorded = {row["params"][curve.axis] for row in kept.rows(curve)}
    for size in (size for size in sizes if size not in recorded):
        params, needed = {**curve.fixed, curve.axis: size}, size * curve.bytes_each
        reason = None
        if curve.axis == "threads" and size > usable_cores():
            reason = f"this machine has {usable_cores()} cores"
        elif needed > memory:
            reason = f"it takes some {needed / 1e9:.1f} GB, --memory allows {memory / 1e9:g}"
        if reason is not None:
            kept.add([{"bench": BENCH, "case": curve.name, "params": params, "left_out": reason}])
            print(f"{curve.name} at {size:,}: left out, {reason}", flush=True)
            continue
        setting = Setting(size, params["threads"], folder, memory // 2)
        try:
            measured = measure(curve.name, curve.make, setting, curve.effort)
        except MtawError as error:
            report.refuse(str(error))
            continue
        rows = [row.as_json() for row in rows_of(curve, params, measured)]
        kept.add(rows)
        wall, processor, peak = (f"{row['p50']:,.4g}" for row in rows)
        print(
            f"{curve.name} at {size:,}: {wall} {curve.unit} (processor {processor}), peak {peak} MB, "
            f"load {measured.load}",
            flush=True,
        )
    curve_rows = kept.rows(curve)
    for metric in dict.fromkeys(row["metric"] for row in curve_rows):
        points = [
            (row["params"][curve.axis], row["p50"], row["spread"]) for row in curve_rows if row["metric"] == metric
        ]
        if len(points) > 1:
            fixed = ", ".join(f"{name} {value}" for name, value in curve.fixed.items())
            power = power_of(*zip(*points, strict=True))
            report.notes.append(f"{curve.name} {fixed}, {metric}: {curve.axis}^{power}")


def rows_of(curve: Curve, params: dict[str, Any], found: Measured) -> list[Row]:
    """Return a point's rows: time on the clock, processor time, and peak memory."""
    unit = _UNITS[curve.unit]
    more: dict[str, Any] = {"along": curve.axis, "what": curve.what, "load": found.load}
    more |= {"facts": found.facts} if found.facts else {}
    return [
        Row.of(BENCH, curve.name, params, metric, values, {**more, "spread": round(error, 4)})
        for metric, values, error in (
            (f"latency_{curve.unit}", [seconds * unit for seconds in found.seconds], spread(found.seconds)),
            (f"processor_{curve.unit}", found.processor * unit, 0.0),
            ("peak_mb", found.peak / 1e6, 0.0),
        )
    ]


if __name__ == "__main__":
    raise SystemExit(main())
