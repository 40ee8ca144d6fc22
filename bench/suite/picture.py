"""Draw the quality of systems against what their training costs: `python -m bench.suite.picture FILE.png`.

A point is a training's best P@20 on validation and its processor seconds, both on one machine class. Trainings that
were cut short are gray and have no name.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from bench.suite.charts import Training, trainings_of
from bench.suite.results import ROOT
from mtaw_fast.storage.files import atomic_path

MACHINE = "amd-f25-m17-avx512bf16-2c"
NAMED = {"full (ours)", "paper (ours)", "paper gamma=6 (ours)", "GCE-GNN", "SR-GNN", "SASRec", "Item-KNN"}


def figure_of(trainings: Sequence[Training]) -> Figure:
    """Return a panel for each data set."""
    sets = list(dict.fromkeys(training.dataset for training in trainings))
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, dataset in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        for training in (one for one in trainings if one.dataset == dataset):
            best = max(range(len(training.hits)), key=training.hits.__getitem__)
            point, ours = (training.seconds[best] / 60, training.hits[best]), training.name.endswith("(ours)")
            color = "lightgray" if training.name not in NAMED else "tab:blue" if ours else "dimgray"
            axes.plot(*point, "o", color=color, markersize=9 if ours else 6)
            if training.name in NAMED:
                name = training.name.replace(" gamma=6", "").replace(" (ours)", "")
                weight = "bold" if ours else "normal"
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
