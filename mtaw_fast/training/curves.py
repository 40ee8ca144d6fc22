"""The picture of a training: its losses, phase by phase, and the metrics on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtaw_fast.evaluation.curves import figure_of
from mtaw_fast.storage.files import atomic_path


def plot_curves(history: Sequence[Mapping[str, Any]], path: Path, best: Mapping[str, float] | None = None) -> None:
    """Draw a training to a PNG; the arguments are those of `evaluation.curves.figure_of`."""
    figure = figure_of(history, best)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
