"""The charts of a machine class: their rows, and how they are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.harness.powers import power_of
from mtaw_fast.errors import require
from mtaw_fast.evaluation.curves import dress

COLORS = ("#1f5fa8", "#b4531a", "#2a7d4f", "#7b3fa0", "#8a6d00", "#c2185b", "#00838f", "#4d5566")
_MARKERS = "osD^vPX*"
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_FEW = 4  # lines whose legend fits inside the axes
_SCALING_AXES = (
    ("catalog", "items", "Size of the catalog"),
    ("log", "clicks of the log", "Length of the log"),
    ("clicks", "clicks of the session", "Length of a session"),
    ("batch", "sessions or samples of the batch", "Size of a batch"),
    ("threads", "threads", "Threads"),
)
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Panel:
    """Axes with their lines: name, x and y of each. logs: which axes are logarithmic."""

    title: str
    along: str
    up: str
    lines: Sequence[tuple[str, Sequence[float], Sequence[float]]]
    logs: str


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """A picture. slug: its file's name. reads: how to read it."""

    slug: str
    title: str
    reads: str
    panels: Sequence[Panel]


def charts_of(rows: Sequence[Row]) -> list[Chart]:
    """Return the charts that have rows, in the order of the page."""
    load = Chart(
        "load", "Latency under load",
        "From the scheduled time of a request to its whole answer, by the rate of requests; the client shares the "
        "machine's cores with the service.", _load(rows),
    )  # fmt: skip
    scaling = (
        Chart(
            f"scaling-{axis}", f"{title}: time and memory",
            "One unit of work, on the clock over threads, else in processor time, and peak memory of a process that "
            "does nothing else. Both axes are logarithmic; each name gives the fitted power with its 95% interval.",
            _scaling(rows, axis, along),
        )
        for axis, along, title in _SCALING_AXES
    )  # fmt: skip
    return [chart for chart in (load, *scaling) if chart.panels]


def _load(rows: Sequence[Row]) -> list[Panel]:
    groups: dict[str, list[Row]] = {}
    for row in (row for row in rows if (row["bench"], row["case"]) == ("serving", "poisson")):
        params = row["params"]
        groups.setdefault(f"{params['catalog']:,} items, {params['index']}", []).append(row)
    panels = []
    for title, group in groups.items():
        group.sort(key=lambda row: row["params"]["rate"])
        rates = [row["params"]["rate"] for row in group]
        lines = [(name, rates, [row[name] for row in group]) for name in ("p50", "p90", "p99")]
        panels.append(Panel(title, "requests a second", "ms", lines, "y"))
    return panels


def _scaling(rows: Sequence[Row], axis: str, along: str) -> list[Panel]:
    """Return the panels of an axis: threads by time on the clock, the others by processor time; d = 100 alone."""
    clock = axis == "threads"
    panels = []
    for head, up, start in (
        ("time", f"ms {'on the clock' if clock else 'of processor time'}", "latency_" if clock else "processor_"),
        ("memory", "MB at the peak", "peak_mb"),
    ):
        curves: dict[str, list[Row]] = {}
        for row in rows:
            if row.get("along") == axis and row["metric"].startswith(start) and row["params"].get("d") in (None, 100):
                curves.setdefault(row["case"], []).append(row)
        lines = []
        for case, found in curves.items():
            points = sorted((row["params"][axis], row["p50"], row["spread"]) for row in found)
            if len(points) > 1:
                sizes, costs, errors = (list(column) for column in zip(*points, strict=True))
                unit = _MS.get(found[0]["metric"].rpartition("_")[2], 1.0)
                name = f"{case.partition('-')[2]}: {power_of(sizes, costs, errors)}"
                lines.append((name, sizes, [unit * cost for cost in costs]))
        if lines:
            panels.append(Panel(head, along, up, lines, "xy"))
    return panels


def figure_of(chart: Chart) -> Any:
    """Draw the chart as a matplotlib figure."""
    require("matplotlib", "report")
    from matplotlib.figure import Figure

    wide = any(len(panel.lines) > _FEW or "x" in panel.logs for panel in chart.panels)
    columns = 1 if wide else min(len(chart.panels), 2)
    rows = -(-len(chart.panels) // columns)
    figure = Figure(figsize=(9.5, 4.2 * rows), layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in all_axes[len(chart.panels) :]:
        axes.remove()
    for panel, axes in zip(chart.panels, all_axes, strict=False):
        _draw(panel, axes)
        dress(axes, "light")
    return figure


def _draw(panel: Panel, axes: Any) -> None:
    for number, (name, x, values) in enumerate(panel.lines):
        style = {"color": COLORS[number % len(COLORS)], "marker": _MARKERS[number // len(COLORS) % len(_MARKERS)]}
        axes.plot(x, values, label=name, linewidth=1.6, markersize=5, **style)
    axes.set(title=panel.title, xlabel=panel.along, ylabel=panel.up)
    for axis, log in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        if log in panel.logs:
            _plain_logarithmic(axis)
    if len(panel.lines) <= _FEW and "x" not in panel.logs:
        axes.legend(frameon=False, fontsize="small")
    else:
        columns = 2 if max(len(name) for name, _, _ in panel.lines) > 24 else 4
        axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns)


def _plain_logarithmic(axis: Any) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
