"""The paper's figure 2 from recorded screens: P@20 over gamma, with plain cross-entropy (gamma 0) beside it.

python -m bench.gamma_curve [--dataset retailrocket] [--results docs/results] [--out docs/images/gamma.png]

The records are those of `python -m bench.quality --data DIR --preset paper --split validation --dataset retailrocket
--set gamma=G`, G = 0, 2, 4, 6, 8, 10.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.harness.report import exit_code_of
from bench.quality.records import every_record
from mtaw_fast.errors import MtawError, UsageError, require
from mtaw_fast.storage.files import atomic_path

_METRICS = ("P@20", "MRR@20")


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the curve; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.gamma_curve", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", default="retailrocket")
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="folder of the records")
    parser.add_argument("--out", type=Path, default=Path("docs/images/gamma.png"), help="picture to write")
    options = parser.parse_args(argv)
    try:
        points = points_of(options.results, options.dataset)
        draw(points, options.dataset, options.out)
    except MtawError as error:
        return exit_code_of(error)
    for gamma, values in sorted(points.items()):
        print(f"gamma {gamma:g}: " + ", ".join(f"{name} {value:.2f}" for name, value in values.items()))
    print(f"wrote {options.out}")
    return 0


def points_of(results: Path, dataset: str) -> dict[float, dict[str, float]]:
    """gamma -> mean metrics of the preset `paper` on validation; UsageError where there are fewer than two."""
    found: dict[float, list[Mapping[str, float]]] = {}
    for record in every_record(results):
        same = record["dataset"]["name"] == dataset and record["preset"] == "paper" and record["split"] == "validation"
        if same and not set(record["changed"]) - {"gamma"}:
            found.setdefault(record["config"]["gamma"], []).append(record["metrics"])
    if len(found) < 2:
        raise UsageError(f"{results} holds {len(found)} values of gamma for {dataset}; record more with bench.quality")
    return {gamma: {name: statistics.fmean(one[name] for one in group) for name in _METRICS}
            for gamma, group in found.items()}  # fmt: skip


def draw(points: Mapping[float, Mapping[str, float]], dataset: str, path: Path) -> None:
    """A panel a metric: a curve over gamma > 0, and gamma 0 as a level."""
    require("matplotlib", "train")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    gammas = sorted(gamma for gamma in points if gamma > 0)
    for axes, name in zip(figure.subplots(1, 2), _METRICS, strict=True):
        axes.plot(gammas, [points[gamma][name] for gamma in gammas], marker="o", label="AW loss")
        if 0 in points:
            axes.axhline(points[0][name], color="gray", linestyle="--", label="cross-entropy (gamma 0)")
        axes.set(xlabel="gamma", ylabel=f"{name}, percent", title=f"{dataset}, validation")
        axes.grid(alpha=0.3)
        axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
