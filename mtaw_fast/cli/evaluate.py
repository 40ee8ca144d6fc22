"""`mtaw-fast evaluate`: a bundle on held-out samples, through the path that serves, beside the baselines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.cli.common import add_command, add_serving_options, print_json
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions, offsets_of
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation import Progress, Report, evaluate
from mtaw_fast.evaluation.baselines import fit_baselines
from mtaw_fast.evaluation.metrics import METRICS
from mtaw_fast.recommender import Recommender


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "evaluate",
        run,
        "Score a bundle on a data set's test or validation samples, beside simple baselines.",
        "mtaw-fast evaluate shop.bundle shop.dataset --split test --json",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("dataset", type=Path, metavar="DATASET")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--no-baselines", action="store_true", help="leave the baselines out")
    parser.add_argument("--json", action="store_true", help="metrics in percent as JSON")
    add_serving_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and print the table."""
    recommender = Recommender.load(arguments.bundle, encoder=arguments.encoder, index=arguments.index)
    dataset = Dataset.load(arguments.dataset)
    bundle = recommender.bundle
    known, held_out = dataset.train.split_last(bundle.config.validation)
    fitted, samples = known, Samples.from_sessions(held_out, dataset.min_prefix)
    if arguments.split == "test":
        fitted, samples = dataset.train, dataset.test
    seen = arguments.split == "validation" and bool(bundle.metrics.get("refit", True))
    if seen:
        print("note: this bundle was refit on the validation sessions; train with --no-refit to score it on them",
              file=sys.stderr)  # fmt: skip
    if len(samples) == 0:
        raise UsageError(f"{arguments.dataset} has no {arguments.split} samples; prepare it with a test part")

    reports: dict[str, Report] = {}
    with _progress(not arguments.json) as progress:
        reports["model"] = evaluate(recommender, _translated(samples, dataset.ids, bundle.ids), progress=progress)
        if not arguments.no_baselines:
            baselines = fit_baselines(fitted, known, held_out, dataset.min_prefix, dataset.n_items)
            for name, ranker in baselines.items():
                reports[name] = evaluate(ranker, samples, progress=progress)
    if arguments.json:
        result = {
            **reports["model"].as_dict(),
            "split": arguments.split,
            "seen_in_training": seen,
            "encoder": recommender.encoder.name,
            "index": recommender.index.name,
            "baselines": {name: report.as_dict() for name, report in reports.items() if name != "model"},
        }
        print_json(result)
    else:
        print(f"{dataset.name}, {arguments.split}: encoder {recommender.encoder.name}, index {recommender.index.name}")
        print(table(reports))


def table(reports: Mapping[str, Report]) -> str:
    """A Markdown table, a row a ranker: metrics with 95% intervals, then repeat and non-repeat targets apart."""
    model = next(iter(reports.values()))
    head = ["", *METRICS, f"P@20 repeat ({model.repeat_samples:,})",
            f"P@20 non-repeat ({model.samples - model.repeat_samples:,})"]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for name, report in reports.items():
        cells = [
            f"{report.metrics[metric]:.2f} [{report.intervals[metric][0]:.2f}, {report.intervals[metric][1]:.2f}]"
            for metric in METRICS
        ]
        rows.append([name, *cells, f"{report.repeat['P@20']:.2f}", f"{report.non_repeat['P@20']:.2f}"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    )


def _translated(samples: Samples, source: ItemIds, target: ItemIds) -> Samples:
    """Samples in the bundle's internal ids: unknown clicks are dropped, an unknown target can only be missed."""
    internal = target.lookup(source.external(np.arange(len(source), dtype=np.int64)))
    if np.array_equal(internal, np.arange(len(target))):
        return samples
    items = internal[samples.prefixes.items]
    row = np.repeat(np.arange(len(samples)), samples.prefixes.lengths)
    kept = np.bincount(row[items >= 0], minlength=len(samples))
    times = samples.prefixes.times
    prefixes = Sessions(items[items >= 0], offsets_of(kept), None if times is None else times[items >= 0])
    # Out of the catalog's range: no list holds it.
    targets = np.where(internal[samples.targets] >= 0, internal[samples.targets], len(target)).astype(np.int32)
    return Samples(prefixes, targets, samples.session, samples.target_times)


class _progress:  # noqa: N801
    """A rich bar on a terminal where rich is installed; nothing elsewhere."""

    def __init__(self, wanted: bool) -> None:
        self._bar: Any = None
        if wanted and sys.stderr.isatty():
            try:
                from rich.progress import Progress as Bar
            except ModuleNotFoundError:
                return  # the base install serves without rich
            self._bar = Bar(transient=True)

    def __enter__(self) -> Progress | None:
        if self._bar is None:
            return None
        self._bar.start()
        task = self._bar.add_task("ranking", total=None)
        return lambda done, total: self._bar.update(task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
