"""The curves of a training as a figure, with a panel for each kind of data that exists.

The phases follow one another on one axis of epochs, in the order in which they ran, so that no curve hides another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mtaw_fast.errors import require

_PANEL = 4.6  # inches
_HEIGHT = 3.8
_COLORS = {"light": ("#1f5fa8", "#b4531a", "#222222", "#bbbbbb"), "dark": ("#7db4f0", "#f0a267", "#dddddd", "#555555")}
_SHOWN = ("P@20", "MRR@20")
Records = Sequence[Mapping[str, Any]]
Panel = Callable[[Any, tuple[str, str]], None]  # of axes and colors


def figure_of(history: Records, best: Mapping[str, float] | None = None) -> Any:
    """Return a matplotlib figure with the losses of encoder and ranker and the metrics on validation.

    history: one an epoch: `phase`, `epoch`, `loss`, optionally `losses` within it and metrics ('MRR@20'). best: the
    metrics in percent, drawn as bars if no epoch has any.
    Raises MissingPackageError without matplotlib.
    """
    return _drawn(_panels(history, best), "light")


def figures_of(history: Records, best: Mapping[str, float] | None = None, theme: str = "light") -> list[Any]:
    """Return the panels of `figure_of`, a figure each. theme: 'light', or 'dark' with a transparent background."""
    return [_drawn([panel], theme) for panel in _panels(history, best)]


def _panels(history: Records, best: Mapping[str, float] | None) -> list[Panel]:
    """Return a function for each panel to draw."""
    losses = {
        "loss of the encoder": [record for record in history if not _of_ranker(record)],
        "loss of the ranker": [record for record in history if _of_ranker(record)],
    }
    panels: list[Panel] = [partial(_losses, title, records) for title, records in losses.items() if records]
    measured = [record for record in history if "MRR@20" in record]
    if measured:
        panels.append(partial(_metrics, measured))
    elif best:
        panels.append(partial(_bars, best))
    return panels


def _drawn(panels: Sequence[Panel], theme: str) -> Any:
    require("matplotlib", "train")
    from matplotlib.figure import Figure

    first_color, second_color = _COLORS[theme][:2]
    figure = Figure(figsize=(_PANEL * max(len(panels), 1), _HEIGHT))
    figure.set_layout_engine("constrained", w_pad=0.12)
    figure.patch.set_alpha(0.0 if theme == "dark" else 1.0)
    for panel, axes in zip(panels, figure.subplots(1, max(len(panels), 1), squeeze=False)[0], strict=False):
        panel(axes, (first_color, second_color))
        dress(axes, theme)
    return figure


def dress(axes: Any, theme: str) -> None:
    """Apply the style of all figures to drawn axes. theme: 'light', or 'dark' for a page with a dark background."""
    ink, grid = _COLORS[theme][2:]
    axes.set_facecolor("none")
    axes.tick_params(which="both", colors=ink)
    axes.grid(color=grid, alpha=0.6, linewidth=0.6)
    axes.set_axisbelow(True)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts):
        text.set_color(ink)
    for edge in axes.spines.values():
        edge.set_color(grid)


def _of_ranker(record: Mapping[str, Any]) -> bool:
    return str(record["phase"]).startswith("ranker")


def _losses(title: str, records: Records, axes: Any, colors: tuple[str, str]) -> None:
    """Draw a curve a phase, one after the other: losses within epochs if known, and the means of epochs."""
    ticks, names, begin = [], [], 0
    for number, phase in enumerate(dict.fromkeys(record["phase"] for record in records)):
        epochs = [record for record in records if record["phase"] == phase]
        color = colors[number % 2]
        curve_x: list[float] = []
        curve_y: list[float] = []
        for epoch, record in enumerate(epochs):
            losses = record.get("losses") or []
            curve_x += [begin + epoch + (step + 1) / len(losses) for step in range(len(losses))]
            curve_y += losses
        axes.plot(curve_x, curve_y, color=color, linewidth=1.2, alpha=0.7)
        middles = [begin + epoch + 0.5 for epoch in range(len(epochs))]
        axes.plot(middles, [record["loss"] for record in epochs], "o", color=color, markersize=5)
        if begin:
            axes.axvline(begin, color=color, linewidth=0.8, linestyle=":")
        ticks.append(begin + len(epochs) / 2)
        names.append(f"{phase}\n{len(epochs)} epoch{'s' if len(epochs) > 1 else ''}")
        begin += len(epochs)
    axes.set_xlim(0, begin + 0.1)
    axes.set_xticks(ticks, names)
    axes.set(title=title, xlabel="phase after phase; dots: means of epochs")


def _metrics(measured: Records, axes: Any, colors: tuple[str, str]) -> None:
    """Draw the metrics of every epoch, with the latest value of each."""
    for metric, color in zip(_SHOWN, colors, strict=True):
        values = [record[metric] for record in measured]
        epochs = [record["epoch"] for record in measured]
        axes.plot(epochs, values, marker="o", color=color)
        axes.annotate(
            f"{metric} {values[-1]:.2f}",
            (epochs[-1], values[-1]),
            xytext=(0, 7),
            textcoords="offset points",
            ha="right",
        )
    axes.margins(y=0.18)
    axes.set(title="validation, percent", xlabel="epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _bars(best: Mapping[str, float], axes: Any, colors: tuple[str, str]) -> None:
    """Draw the metrics of the whole model, which are measured once."""
    names = [name for name in best if "@" in name]
    bars = axes.barh(names, [best[name] for name in names], color=[colors[name.startswith("MRR")] for name in names])
    axes.bar_label(bars, fmt="%.2f", padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set(title="validation of the whole, percent")
