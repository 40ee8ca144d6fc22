"""The curves of a training as a figure: a panel for what there is, and none for what there is not.

The phases stand side by side along one axis of epochs, in the order in which they ran, so that no curve hides another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtaw_fast.errors import require

_PANEL = 4.6  # inches
_HEIGHT = 3.8
_COLOURS = {"light": ("#1f5fa8", "#b4531a", "#222222", "#bbbbbb"), "dark": ("#7db4f0", "#f0a267", "#dddddd", "#555555")}
_SHOWN = ("P@20", "MRR@20")
Records = Sequence[Mapping[str, Any]]


def figure_of(history: Records, best: Mapping[str, float] | None = None, theme: str = "light") -> Any:
    """A matplotlib figure: the encoder's loss, the ranker's where it has one, and the metrics on validation.

    Parameters
    ----------
    history : sequence of records
        An epoch each: `phase`, `epoch`, `loss`, perhaps `losses` within it, perhaps metrics ('MRR@20').
    best : mapping of str to float, optional
        The metrics in percent, which stand for themselves where no epoch has any: as bars.
    theme : {'light', 'dark'}, default 'light'
        Of the colours; the background is left out of the dark one.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MissingPackageError
        Without matplotlib.
    """
    require("matplotlib", "train")
    from matplotlib.figure import Figure

    judged = [record for record in history if "MRR@20" in record]
    losses = {
        "loss of the encoder": [record for record in history if not _of_ranker(record)],
        "loss of the ranker": [record for record in history if _of_ranker(record)],
    }
    drawn = {title: records for title, records in losses.items() if records}
    count = len(drawn) + bool(judged or best)
    first, second, ink, grid = _COLOURS[theme]
    figure = Figure(figsize=(_PANEL * max(count, 1), _HEIGHT), layout="constrained")
    panels = figure.subplots(1, max(count, 1), squeeze=False)[0]
    for axes, (title, records) in zip(panels, drawn.items(), strict=False):
        _losses(axes, records, (first, second))
        axes.set(title=title, xlabel="epochs, phase after phase")
    if judged:
        _metrics(panels[-1], judged, (first, second))
    elif best:
        _bars(panels[-1], best, (first, second))
    figure.patch.set_alpha(0.0 if theme == "dark" else 1.0)
    for axes in panels:
        axes.set_facecolor("none")
        axes.tick_params(colors=ink)
        axes.grid(color=grid, alpha=0.6, linewidth=0.6)
        axes.set_axisbelow(True)
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts):
            text.set_color(ink)
        for edge in axes.spines.values():
            edge.set_color(grid)
    return figure


def _of_ranker(record: Mapping[str, Any]) -> bool:
    return str(record["phase"]).startswith("ranker")


def _losses(axes: Any, records: Records, colours: tuple[str, str]) -> None:
    """A curve a phase, one beside the other: within the epochs where that is known, and the means of whole epochs."""
    ticks, names, begin = [], [], 0
    for number, phase in enumerate(dict.fromkeys(record["phase"] for record in records)):
        epochs = [record for record in records if record["phase"] == phase]
        colour = colours[number % 2]
        within_x: list[float] = []
        within: list[float] = []
        for place, record in enumerate(epochs):
            losses = record.get("losses") or []
            within_x += [begin + place + (step + 1) / len(losses) for step in range(len(losses))]
            within += losses
        axes.plot(within_x, within, color=colour, linewidth=1.2, alpha=0.7)
        ends = [begin + place + 1 for place in range(len(epochs))]
        axes.plot(ends, [record["loss"] for record in epochs], "o", color=colour, markersize=5)
        if begin:
            axes.axvline(begin, color=colour, linewidth=0.8, linestyle=":")
        ticks.append(begin + len(epochs) / 2)
        names.append(f"{phase}\n{len(epochs)} epoch{'s' if len(epochs) > 1 else ''}")
        begin += len(epochs)
    axes.set_xlim(0, begin + 0.1)
    axes.set_xticks(ticks, names)


def _metrics(axes: Any, judged: Records, colours: tuple[str, str]) -> None:
    """The metrics of every epoch, each with its latest number beside it."""
    for metric, colour in zip(_SHOWN, colours, strict=True):
        values = [record[metric] for record in judged]
        epochs = [record["epoch"] for record in judged]
        axes.plot(epochs, values, marker="o", color=colour)
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


def _bars(axes: Any, best: Mapping[str, float], colours: tuple[str, str]) -> None:
    """The metrics of the whole model, which are measured once."""
    names = [name for name in best if "@" in name]
    bars = axes.barh(names, [best[name] for name in names], color=[colours[name.startswith("MRR")] for name in names])
    axes.bar_label(bars, fmt="%.2f", padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set(title="validation of the whole, percent")
