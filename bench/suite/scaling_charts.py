"""The charts of `bench.scaling`: processor time and peak memory along each axis, with the fitted powers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.harness.powers import power_of
from bench.suite.series import Chart, Panel, Series

_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_AXES = (
    ("catalog", "items", "Size of the catalog"),
    ("log", "clicks of the log", "Length of the log"),
    ("clicks", "clicks of the session", "Length of a session"),
    ("batch", "sessions or samples of the batch", "Size of a batch"),
    ("threads", "threads", "Threads"),
)
_MADE_BY = "python -m bench.scaling --json FILE"
Row = Mapping[str, Any]


def scaling_charts(rows: Sequence[Row]) -> list[Chart]:
    """A chart an axis, two panels each; of threads the time on the clock, of the others processor time."""
    own = [row for row in rows if row["bench"] == "scaling"]
    charts = []
    for axis, along, title in _AXES:
        clock = axis == "threads"
        what = "on the clock" if clock else "of processor time"
        panels = [
            Panel(head, along, up, series, "xy")
            for head, up, start in (
                ("time", f"ms {what}", "latency_" if clock else "processor_"),
                ("memory", "MB at the peak", "peak_mb"),
            )
            if (series := _series(own, axis, start))
        ]
        charts.append(
            Chart(
                f"scaling-{axis}",
                f"{title}: time and memory",
                f"Milliseconds {what} for one unit of work, and peak memory of a process that does nothing else. Both "
                "axes are logarithmic; behind each name stands the power that fits, with its 95% interval, and where "
                "two fit better the place of the bend.",
                _MADE_BY,
                panels,
            )
        )
    return charts


def _series(rows: Sequence[Row], axis: str, start: str) -> list[Series]:
    curves: dict[tuple[str, Any], list[Row]] = {}
    for row in rows:
        if row.get("along") == axis and row["metric"].startswith(start):
            curves.setdefault((row["case"], row["params"].get("d")), []).append(row)
    several = {case: sum(name == case for name, _ in curves) > 1 for case, _ in curves}
    series = []
    for (case, d), own in curves.items():
        points = sorted((row["params"][axis], row["p50"], row["spread"]) for row in own)
        if len(points) < 2:
            continue
        sizes, costs, errors = (list(column) for column in zip(*points, strict=True))
        unit = _MS.get(own[0]["metric"].rpartition("_")[2], 1.0)
        name = case.removeprefix(f"{case.partition('-')[0]}-") + (f", d {d}" if several[case] else "")
        series.append(Series(f"{name}: {power_of(sizes, costs, errors)}", sizes, [unit * cost for cost in costs]))
    return series
