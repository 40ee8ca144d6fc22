"""The paper's figure 2 from records: P@20 and MRR@20 over gamma, with plain cross-entropy (gamma 0).

python -m bench.quality.gamma_curve [--preset paper] [--split validation] [--dataset NAMES] [--results DIR] [--out FILE]
python -m bench.quality.gamma_curve --preset paper-literal --batches sessions --split test --out FILE
python -m bench.quality.gamma_curve --preset paper-literal --seed 0 --out FILE

A point is the mean over the recorded seeds, with a band of one standard deviation; with one seed, bars are the 95%
bootstrap intervals over sessions. The printed tables have both. On the test split each protocol is a curve, and the
one whose epochs the test set chose is marked as a leak. Make the records with
`python -m bench.quality --data DIR --preset P --set gamma=G` and the same --split and --protocol.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.report import command
from bench.quality.records import HELD_OUT, PUBLISHED, SPLITS, protocol_of, records_in
from bench.quality.table import LEAK_MARK, TITLES, epochs_of, markdown, mean_and_spread
from mtaw_fast.config import PRESETS
from mtaw_fast.errors import UsageError, require
from mtaw_fast.storage.files import atomic_path

_METRICS = ("P@20", "MRR@20")
_DATASETS = "tmall,retailrocket"
_MIN_POINTS = 2  # points of a curve
_PROTOCOLS, _COLORS = (HELD_OUT, PUBLISHED), ("tab:blue", "tab:orange")


@dataclass(frozen=True, slots=True)
class Point:
    """One gamma. values: metric -> a value a seed; intervals: metric -> their mean 95% interval; epochs: in words."""

    values: Mapping[str, Sequence[float]]
    intervals: Mapping[str, tuple[float, float]]
    epochs: str

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]]) -> Point:
        """Return the point of records that differ in their seed alone."""
        values, intervals = {}, {}
        for name in _METRICS:
            values[name] = [record["metrics"][name] for record in records]
            low, high = (statistics.fmean(record["intervals"][name][end] for record in records) for end in (0, 1))
            intervals[name] = low, high
        return cls(values, intervals, epochs_of(records))

    def band(self, name: str, over_seeds: bool) -> tuple[float, float, float]:
        """Return (mean, low, high) of a metric, by the seeds' standard deviation or the interval."""
        mean = statistics.fmean(self.values[name])
        if not over_seeds:
            return mean, *self.intervals[name]
        spread = statistics.stdev(self.values[name])
        return mean, mean - spread, mean + spread


Curve = Mapping[float, Point]  # by gamma


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Draw the curves and print their tables; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality.gamma_curve", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--dataset", default=_DATASETS, metavar="NAMES", help=f"with commas (default: {_DATASETS})")
    parser.add_argument("--preset", default="paper", choices=tuple(PRESETS), help="(default: paper)")
    parser.add_argument("--split", default="validation", choices=SPLITS, help="(default: validation)")
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="folder of the records")
    parser.add_argument("--out", type=Path, default=Path("docs/images/gamma.png"), help="picture to write")
    parser.add_argument("--batches", metavar="KIND", help="of this setting, not the preset's (docs/training.md)")
    parser.add_argument("--seed", type=int, metavar="N", help="of this seed alone (default: all that are recorded)")
    options = parser.parse_args(argv)
    names = [name.strip() for name in options.dataset.split(",")]
    curves = {
        name: curves_of(options.results, name, options.preset, options.split, options.batches, options.seed)
        for name in names
    }
    draw(curves, options.preset, options.split, options.out)
    for name, by_protocol in curves.items():
        for protocol, curve in by_protocol.items():
            print(f"{TITLES.get(name, name)}, preset {options.preset}, {_source(options.split, protocol)}\n")
            print(f"{table(curve)}\n")
    print(f"wrote {options.out}")
    return 0


def curves_of(
    results: Path, dataset: str, preset: str, split: str, batches: str | None = None, seed: int | None = None
) -> dict[str, Curve]:
    """Return the curve of each protocol, from records that differ in gamma alone; UsageError without two points.

    batches: the setting's value in all of them, if it is not the preset's. seed: take no other one's records.
    """
    other_changes = {} if batches is None else {"batches": batches}
    free = ("gamma", "patience")  # patience: how long was searched, not what was trained
    by_protocol: dict[str, dict[float, list[Mapping[str, Any]]]] = {protocol: {} for protocol in _PROTOCOLS}
    for record in records_in(results).finished():
        subject = (record["dataset"]["name"], record["preset"], record["split"])
        changed = {name: value for name, value in record["changed"].items() if name not in free}
        if seed is not None and record["seed"] != seed:
            continue
        if subject == (dataset, preset, split) and changed == other_changes and protocol_of(record) in by_protocol:
            by_protocol[protocol_of(record)].setdefault(record["config"]["gamma"], []).append(record)
    curves: dict[str, Curve] = {
        protocol: {gamma: Point.of(group) for gamma, group in sorted(groups.items())}
        for protocol, groups in by_protocol.items()
        if len(groups) >= _MIN_POINTS
    }
    if not curves:
        n_values = max(map(len, by_protocol.values()))
        of_seed = "" if seed is None else f" of seed {seed}"
        raise UsageError(
            f"{results} holds {n_values} values of gamma{of_seed} for {dataset}, {preset} and {split}, "
            f"a curve takes {_MIN_POINTS}; record more with bench.quality"
        )
    return curves


def table(curve: Curve) -> str:
    """Return a row for each gamma: seeds, epochs, metrics with the seeds' deviation and the interval over sessions."""
    rows = []
    for gamma, point in curve.items():
        cells = []
        for name in _METRICS:
            low, high = point.intervals[name]
            cells.append(f"{mean_and_spread(point.values[name])} [{low:.2f}, {high:.2f}]")
        rows.append((f"{gamma:g}", str(len(point.values[_METRICS[0]])), point.epochs, *cells))
    return markdown(("gamma", "seeds", "epochs", *_METRICS), rows)


def draw(curves: Mapping[str, Mapping[str, Curve]], preset: str, split: str, path: Path) -> None:
    """Draw a row for each data set and a panel for each metric: curves over gamma > 0, and gamma 0 as a level."""
    require("matplotlib", "train")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4 * len(curves)), layout="constrained")
    panels = figure.subplots(len(curves), len(_METRICS), squeeze=False)
    for row, (dataset, by_protocol) in zip(panels, curves.items(), strict=True):
        for axes, name in zip(row, _METRICS, strict=True):
            for protocol, curve in by_protocol.items():
                _draw_curve(axes, curve, name, _source(split, protocol), _COLORS[_PROTOCOLS.index(protocol)])
            axes.set(xlabel="gamma", ylabel=f"{name}, percent", title=f"{TITLES.get(dataset, dataset)}, {preset}")
            axes.grid(alpha=0.3)
            axes.margins(y=0.1)
    legend: dict[str, Any] = {}
    for axes in panels.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            legend.setdefault(label, handle)
    figure.legend(list(legend.values()), list(legend), loc="outside lower center", ncols=2, fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _draw_curve(axes: Any, curve: Curve, name: str, source: str, color: str) -> None:
    over_seeds = all(len(point.values[name]) > 1 for point in curve.values())
    gammas = [gamma for gamma in curve if gamma > 0]
    means, lows, highs = zip(*(curve[gamma].band(name, over_seeds) for gamma in gammas), strict=True)
    label = f"AW loss, {source}; " + ("band: ± sd over seeds" if over_seeds else "bars: 95% over sessions")
    if over_seeds:
        axes.plot(gammas, means, marker="o", color=color, label=label)
        axes.fill_between(gammas, lows, highs, color=color, alpha=0.25, linewidth=0)
    else:
        errors = [[mean - low for mean, low in zip(means, lows, strict=True)],
                  [high - mean for mean, high in zip(means, highs, strict=True)]]  # fmt: skip
        axes.errorbar(gammas, means, yerr=errors, marker="o", capsize=3, color=color, label=label)
    if 0 in curve:
        mean, low, high = curve[0].band(name, over_seeds)
        axes.axhline(mean, color=color, linestyle="--", label=f"cross-entropy (gamma 0), {source}, the same")
        axes.axhspan(low, high, color=color, alpha=0.1, linewidth=0)


def _source(split: str, protocol: str) -> str:
    """Describe what a curve was measured on, and how its epochs were chosen."""
    if split == "validation":
        return "validation"
    return "test, epoch by validation" if protocol == HELD_OUT else f"test {LEAK_MARK}"


if __name__ == "__main__":
    raise SystemExit(main())
