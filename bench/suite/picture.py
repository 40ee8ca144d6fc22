"""Draw the quality of systems against what their training costs: `python -m bench.suite.picture FILE.png`.

A point is a training's best P@20 on validation and its processor seconds, both on one machine class. Trainings that
were cut short are gray and have no name.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from bench.peers.records import costs, trained
from bench.quality.table import TITLES
from bench.suite.results import ROOT
from mtaw_fast.storage.files import atomic_path

MACHINE = "amd-f25-m17-avx512bf16-2c"
NAMED = {"full", "paper", "paper gamma=6", "GCE-GNN", "SR-GNN", "SASRec", "Item-KNN"}


@dataclass(frozen=True, slots=True)
class Training:
    """The best of a training on a data set: P@20 on validation, in percent, after so many processor seconds."""

    dataset: str
    name: str
    seconds: float
    hits: float
    ours: bool


def trainings_of(folder: Path, machine: str) -> list[Training]:
    """Return every training with a figure on a machine class. folder: of the records of bench.peers."""
    reached = {
        (record["dataset"]["name"], record["system"]): record.get("validation", {}) for record in trained(folder)
    }
    found = []
    for record in costs(folder).get(machine, []):
        dataset, training, best = record["dataset"]["name"], record["training"], record["training"]["best"]
        points = [(epoch["P@20"], epoch["cpu_seconds"]) for epoch in training.get("history", []) if "P@20" in epoch]
        if not points and best is not None:  # no epoch has a figure: the end alone
            hits = best.get("P@20", reached.get((dataset, record["system"]), {}).get("P@20"))
            points = [] if hits is None else [(hits, best["cpu_seconds"])]
        if points:
            hits, seconds = max(points, key=lambda point: point[0])
            name = record["title"] if training["ended"] else f"{record['title']}, cut short"
            ours = record["system"].startswith("ours-")
            found.append(Training(TITLES.get(dataset, dataset), name, seconds, hits, ours))
    return found


def figure_of(trainings: Sequence[Training]) -> Figure:
    """Return a panel for each data set."""
    sets = sorted({training.dataset for training in trainings}, reverse=True)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, dataset in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        for training in (one for one in trainings if one.dataset == dataset):
            point, ours, named = (training.seconds / 60, training.hits), training.ours, training.name in NAMED
            color = "lightgray" if not named else "tab:blue" if ours else "dimgray"
            axes.plot(*point, "o", color=color, markersize=9 if ours else 6)
            if named:
                weight = "bold" if ours else "normal"
                name = training.name.replace(" gamma=6", "")
                axes.annotate(name, point, (7, 0), textcoords="offset points", va="center", weight=weight)
        axes.set(title=dataset, xlabel="minutes of training, one core", xscale="log", ylim=(0, None), xlim=(0.005, 400))
        axes.set_xticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("P@20 on validation, %")
    return figure


def digest_of(trainings: Sequence[Training]) -> str:
    """Return a hash of what the picture shows, its text "Data": a test finds one that is older than its records."""
    return hashlib.sha256(repr(trainings).encode()).hexdigest()[:16]


def main() -> int:
    """Draw to the file that the command names."""
    path, trainings = Path(sys.argv[1]), trainings_of(ROOT / "docs/results", MACHINE)
    with atomic_path(path) as temporary:
        metadata = {"Data": digest_of(trainings)}
        figure_of(trainings).savefig(temporary, format="png", dpi=130, metadata=metadata)
    return 0


if __name__ == "__main__":
    sys.exit(main())
