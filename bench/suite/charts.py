"""The charts of a machine class: their rows, their figures, and how they are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.powers import power_of
from bench.peers.records import costs, trained
from bench.peers.table import epochs
from bench.quality.table import TITLES
from mtaw_fast.errors import require
from mtaw_fast.evaluation.curves import dress
from mtaw_fast.storage.files import atomic_path

PALETTES = {
    "light": ("#1f5fa8", "#b4531a", "#2a7d4f", "#7b3fa0", "#8a6d00", "#c2185b", "#00838f", "#4d5566"),
    "dark": ("#7db4f0", "#f0a267", "#7fd3a2", "#c79be6", "#e2c65a", "#f48fb1", "#6fd3dc", "#aab3c5"),
}
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
class Series:
    """A line of points."""

    name: str
    x: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """Axes with their lines. logs: which axes are logarithmic."""

    title: str
    along: str
    up: str
    series: Sequence[Series]
    logs: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture. slug: its file's name. reads: how to read it. made_by: the command that makes its rows."""

    slug: str
    title: str
    reads: str
    made_by: str
    panels: Sequence[Panel]


def charts_of(rows: Sequence[Row], trainings: Sequence[Training] = ()) -> list[Chart]:
    """Return all charts in the order of the page; one without rows has no panels. trainings: from `trainings_of`."""
    return [
        Chart(
            "load", "Latency under load",
            "From the scheduled time of a request to its whole answer, by the rate of requests; the client shares the "
            "machine's cores with the service.",
            "python -m bench all --only serving", _load(rows),
        ),
        *(
            Chart(
                f"scaling-{axis}", f"{title}: time and memory",
                "One unit of work, on the clock over threads, else in processor time, and peak memory of a process "
                "that does nothing else. Both axes are logarithmic; each name gives the fitted power with its 95% "
                "interval.",
                "python -m bench.scaling --json FILE", _scaling(rows, axis, along),
            )
            for axis, along, title in _SCALING_AXES
        ),
        Chart(
            "quality", "Quality against training time",
            "P@20 on the validation sessions after each epoch, over the processor seconds of training, on one thread; "
            "further left and higher is better. If a name gives epochs, time ended the training before its own rule. "
            "`full` and Item-KNN have one figure, at their end.",
            "bench.peers --efficiency of commit 0c090e6d", _quality(trainings),
        ),
    ]  # fmt: skip


def _load(rows: Sequence[Row]) -> list[Panel]:
    groups: dict[str, list[Row]] = {}
    for row in (row for row in rows if (row["bench"], row["case"]) == ("serving", "poisson")):
        params = row["params"]
        groups.setdefault(f"{params['catalog']:,} items, {params['index']}", []).append(row)
    panels = []
    for title, group in groups.items():
        group.sort(key=lambda row: row["params"]["rate"])
        rates = [row["params"]["rate"] for row in group]
        series = [Series(name, rates, [row[name] for row in group]) for name in ("p50", "p90", "p99")]
        panels.append(Panel(title, "requests a second", "ms", series, "y"))
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
        series = []
        for case, found in curves.items():
            points = sorted((row["params"][axis], row["p50"], row["spread"]) for row in found)
            if len(points) > 1:
                sizes, costs, errors = (list(column) for column in zip(*points, strict=True))
                unit = _MS.get(found[0]["metric"].rpartition("_")[2], 1.0)
                name = f"{case.partition('-')[2]}: {power_of(sizes, costs, errors)}"
                series.append(Series(name, sizes, [unit * cost for cost in costs]))
        if series:
            panels.append(Panel(head, along, up, series, "xy"))
    return panels


def _quality(trainings: Sequence[Training]) -> list[Panel]:
    """Return a panel for each data set, with a line for each system."""
    panels: dict[str, list[Series]] = {}
    for training in trainings:
        seconds = [max(second, 1.0) for second in training.seconds]
        panels.setdefault(training.dataset, []).append(Series(training.name, seconds, list(training.hits)))
    return [
        Panel(dataset, "processor seconds of training", "P@20 on validation", series, "x")
        for dataset, series in panels.items()
    ]


def write_picture(chart: Chart, path: Path) -> None:
    """Draw the chart into a PNG."""
    with atomic_path(path) as temporary:
        figure_of(chart, "light").savefig(temporary, format="png", dpi=150)


def figure_of(chart: Chart, theme: str) -> Any:
    """Draw the chart as a matplotlib figure. theme: 'light', or 'dark', which has a transparent background."""
    require("matplotlib", "report")
    from matplotlib.figure import Figure

    wide = any(len(panel.series) > _FEW or "x" in panel.logs for panel in chart.panels)
    columns = 1 if wide else min(len(chart.panels), 2)
    lines = -(-len(chart.panels) // columns)
    figure = Figure(figsize=(9.5, 4.2 * lines))
    figure.set_layout_engine("constrained")
    figure.patch.set_alpha(0.0 if theme == "dark" else 1.0)
    all_axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in all_axes[len(chart.panels) :]:
        axes.remove()
    for panel, axes in zip(chart.panels, all_axes, strict=False):
        _lines(panel, axes, PALETTES[theme])
        dress(axes, theme)
        legend = axes.get_legend()
        for text in () if legend is None else legend.get_texts():
            text.set_color(axes.title.get_color())
    return figure


def _lines(panel: Panel, axes: Any, colors: Sequence[str]) -> None:
    for number, series in enumerate(panel.series):
        style = {"color": colors[number % len(colors)], "marker": _MARKERS[number // len(colors) % len(_MARKERS)]}
        axes.plot(series.x, series.values, label=series.name, linewidth=1.6, markersize=5, **style)
    axes.set(title=panel.title, xlabel=panel.along, ylabel=panel.up)
    for axis, log in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        if log in panel.logs:
            _plain_logarithmic(axis)
    if len(panel.series) <= _FEW and "x" not in panel.logs:
        axes.legend(frameon=False, fontsize="small")
    else:
        columns = 2 if max(len(line.name) for line in panel.series) > 24 else 4
        axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns)


def _plain_logarithmic(axis: Any) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


@dataclass(frozen=True, slots=True)
class Training:
    """A system on a data set: its P@20 on validation, in percent, after so many seconds of training."""

    dataset: str
    name: str
    seconds: tuple[float, ...]
    hits: tuple[float, ...]


def trainings_of(folder: Path, machine: str) -> list[Training]:
    """Return every training with a figure on a machine class, ours first. folder: of their records."""
    reached = {
        (record["dataset"]["name"], record["system"]): record.get("validation", {}) for record in trained(folder)
    }
    found = []
    for record in costs(folder).get(machine, []):
        dataset, training, best = record["dataset"]["name"], record["training"], record["training"]["best"]
        points = [(epoch["cpu_seconds"], epoch["P@20"]) for epoch in training.get("history", []) if "P@20" in epoch]
        if not points and best is not None:  # no epoch has a figure: the end alone
            hits = best.get("P@20", reached.get((dataset, record["system"]), {}).get("P@20"))
            points = [] if hits is None else [(best["cpu_seconds"], hits)]
        if points:
            cut = f", {epochs(training['epochs_done'])} of {training['epochs_asked']} epochs"
            name = f"{record['title']}{'' if training['ended'] else cut}"
            ours = record["system"].startswith("ours-")
            seconds, hits = zip(*points, strict=True)
            line = Training(TITLES.get(dataset, dataset), f"{name}{' (ours)' * ours}", seconds, hits)
            found.append((not ours, line))
    return [training for _, training in sorted(found, key=lambda entry: entry[0])]  # stable
