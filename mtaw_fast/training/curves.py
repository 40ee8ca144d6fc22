"""The picture of a training: loss and validation metrics over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtaw_fast.errors import require
from mtaw_fast.storage.files import atomic_path


def plot_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the epochs' loss (left) and validation P@20 and MRR@20 (right) to a PNG."""
    require("matplotlib", "train")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for phase in dict.fromkeys(record["phase"] for record in history):
        records = [record for record in history if record["phase"] == phase]
        left.plot([r["epoch"] for r in records], [r["loss"] for r in records], marker="o", label=phase)
    searched = [record for record in history if "MRR@20" in record]
    for metric in ("P@20", "MRR@20"):
        right.plot([r["epoch"] for r in searched], [r[metric] for r in searched], marker="o", label=metric)
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel="validation, percent")
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
