"""Run benches one after the other, each in its own process, and keep their results."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.harness.machine import machine_class
from bench.harness.powers import student_quantile
from bench.harness.report import Report, say
from bench.suite.catalog import Bench
from bench.suite.results import ROOT, Row, keyed
from mtaw_fast.errors import DataError
from mtaw_fast.storage.files import read_json, write_json

_COUNTS = ("n", "answered", "checked", "errors")


class Suite:
    """A run of some benches. The result file is rewritten after each, so no result is lost.

    path: RESULTS/<class>/<date>-<commit>[-dirty][-quick].json, with a number if that file exists. repeat: processes of
    each bench; all benches run once before any runs again, so the processes of one are apart in time. outcomes: of
    each bench, with its seconds.
    """

    def __init__(self, quick: bool, results: Path, repeat: int = 1) -> None:
        if find_spec("torch") is not None:
            import torch  # noqa: F401  # the machine's record names GPUs if it is loaded
        self.quick, self.repeat = quick, repeat
        self.report = Report("", quick)
        commit, dirty, _ = (self.report.commit or "no-commit").partition("-dirty")
        stem = f"{self.report.at[:10]}-{commit[:12]}{dirty}{'-quick' * quick}"
        folder, number = results / machine_class(self.report.machine), 1
        self.path = folder / f"{stem}.json"
        while self.path.exists():
            number += 1
            self.path = folder / f"{stem}-{number}.json"
        self.found: dict[str, list[list[dict[str, Any]]]] = {}
        self.outcomes: dict[str, dict[str, Any]] = {}

    def run(self, benches: Sequence[Bench]) -> int:
        """Run them; return 1 if one failed or has no result, else 0. Benches that cannot run here are skipped."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        reasons = {bench.name: bench.why_not() for bench in benches}
        for name, reason in reasons.items():
            if reason is not None:
                self._keep(name, 0.0, f"skipped: {reason}")
        turns = [bench for bench in benches if reasons[bench.name] is None] * self.repeat
        with tempfile.TemporaryDirectory(prefix="mtaw-fast-suite-") as folder:
            for number, bench in enumerate(turns, 1):
                say(f"[{number}/{len(turns)}] {bench.name}: {bench.line}")
                began = time.perf_counter()
                outcome = self._one(bench, Path(folder))
                self._keep(bench.name, time.perf_counter() - began, outcome)
        self._print_summary()
        return int(any(entry["outcome"].startswith("failed") for entry in self.outcomes.values()))

    def _one(self, bench: Bench, folder: Path) -> str:
        """Run a bench and take its results; return the outcome."""
        path = folder / f"{bench.name}.json"
        path.unlink(missing_ok=True)
        options = bench.quick if self.quick else bench.full
        code = subprocess.call([sys.executable, "-m", f"bench.{bench.name}", *options, "--json", str(path)], cwd=ROOT)
        results: list[dict[str, Any]] = read_json(path, DataError)["results"] if path.is_file() else []
        if results:
            self.found.setdefault(bench.name, []).append([{"bench": bench.name, **result} for result in results])
        if code:
            return f"failed: exit {code}, see its message above"
        return "done" if results else "failed: it gave no result"

    def _keep(self, name: str, seconds: float, outcome: str) -> None:
        """Record the outcome of a process; a bench's first failure stays its outcome."""
        entry = self.outcomes.setdefault(name, {"name": name, "seconds": 0.0, "outcome": "done"})
        entry["seconds"] = round(entry["seconds"] + seconds, 1)
        if entry["outcome"] == "done":
            entry["outcome"] = outcome
        if outcome != "done":
            print(f"{name}: {outcome}", file=sys.stderr)
        write_json(self.path, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Return the bench JSON schema, followed by what the suite ran."""
        return {
            **self.report.as_json(),
            "results": [row for runs in self.found.values() for row in merged(runs)],
            "suite": {"repeat": self.repeat, "benches": [*self.outcomes.values()]},
        }

    def _print_summary(self) -> None:
        width = max(map(len, self.outcomes), default=5)
        print(f"\n{'bench':{width}} {'seconds':>8}  outcome")
        for entry in self.outcomes.values():
            print(f"{entry['name']:{width}} {entry['seconds']:8.1f}  {entry['outcome']}")
        print(f"{self.report.origin()}\nwrote {self.path}")


def merged(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """Merge the results of repeated runs of a bench.

    A row that every run has becomes one: medians of the numbers, sums of the counts, the geometric mean of the ratios
    with Student's 95% interval over the processes (or the one within them, if it is wider), and `runs`. Records of
    another form, and the rows of a single run, are unchanged.
    """
    if len(runs) < 2:
        return [row for run in runs for row in run]
    rows = [[row for row in run if "metric" in row and "p50" in row] for run in runs]
    records = [row for run in runs for row in run if "metric" not in row or "p50" not in row]
    first, *others = [dict(keyed(run)) for run in rows]
    common = [key for key in first if all(key in run for run in others)]
    return [*(_one_row([run[key] for run in (first, *others)]) for key in common), *records]


def _one_row(rows: Sequence[Row]) -> Row:
    row = dict(rows[0]) | {"runs": len(rows)}
    for name in rows[0]:
        values: list[Any] = [run_row.get(name) for run_row in rows]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        if numbers and not name.startswith("ratio"):
            row[name] = sum(values) if name in _COUNTS else statistics.median(values)
    if row["ratio"] is None:
        return row
    logs = [math.log(run_row["ratio"]) for run_row in rows]
    middle = statistics.fmean(logs)
    between = student_quantile(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    ends = [(run_row["ratio_low"], run_row["ratio_high"]) for run_row in rows if run_row.get("ratio_low") is not None]
    inside = [math.log(high / low) / 2 for low, high in ends]
    half = max(between, math.hypot(*inside) / len(inside) if inside else 0.0)
    ratios = {"ratio": middle, "ratio_low": middle - half, "ratio_high": middle + half}
    return row | {name: float(f"{math.exp(value):.5g}") for name, value in ratios.items()}
