"""How many samples the session memory's ranker needs: validation metrics against samples of its data set.

python -m bench.quality.ranker_curve --data DIR [--dataset tmall,retailrocket] [--set KEY=VALUE] [--counts N,N,..]

The encoders of a training without refit, the tables and the ranker's data set are made once. Then a ranker is fitted
on each number of samples, spread evenly over the data set, and scored on the validation sessions. Each ranker is a line
of --out, and existing lines are not repeated. Encoders are kept in --work.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import limit_threads
from bench.harness.report import command, whole_numbers
from bench.quality.records import read_points
from bench.quality.reuse import encoder_of
from bench.quality.runs import ProgressLines, curve_parser, prepared
from mtaw_fast.config import Config, preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples
from mtaw_fast.evaluation import report_of
from mtaw_fast.memory import RankerNet
from mtaw_fast.model.model import Model
from mtaw_fast.training.memory_tables import build_tables, build_trends
from mtaw_fast.training.ranker.dataset import RankerDataset
from mtaw_fast.training.ranker.fitting import fit_ranker
from mtaw_fast.training.ranker.prequential import build_dataset, evenly
from mtaw_fast.training.ranker.train_ranker import fit_settings
from mtaw_fast.training.reporting import Silent
from mtaw_fast.training.trained_model import served_ranks

OUT = Path("docs/results/ranker-lessons.jsonl")
_COUNTS = "5000,10000,20000,40000,80000,150000"
_SHOWN = ("P@20", "MRR@20")


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Fit and score what is not in the file yet; return the exit status."""
    parser = curve_parser("ranker_curve", __doc__, f"samples (default: {_COUNTS})", _COUNTS, OUT)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting of `full`")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="of the fit: 0..N-1 (default: 1)")
    options = parser.parse_args(argv)
    config = preset("full").override(options.set)
    counts = whole_numbers("--counts", options.counts)
    with limit_threads(options.threads):
        for name in options.dataset.split(","):
            options.work.mkdir(parents=True, exist_ok=True)
            path = options.data / f"{name}.dataset"
            data = Dataset.load(path) if path.exists() else prepared(options.data, name, options.work)
            curve(data, config, counts, options)
    return 0


def curve(dataset: Dataset, config: Config, counts: Sequence[int], options: argparse.Namespace) -> None:
    """Add the lines of one set that are not in the file yet."""
    lines = read_points(options.out)
    identity = {"dataset": dataset.name, "set": sorted(options.set)}
    missing = [
        (count, seed)
        for count in sorted(counts)
        for seed in range(options.seeds)
        if not any(_is(line, identity, count, seed) for line in lines)
    ]
    if not missing:
        return
    known, held_out = dataset.train.split_last(config.optimizer.validation_fraction)
    before, last = known.split_last(config.ranker.ranker_fraction)
    past_weights = whole_weights = None
    if config.memory.dense_candidates:
        past_weights = encoder_of(dataset, config, before, options.work, ProgressLines()).weights
        whole_weights = encoder_of(dataset, config, known, options.work, ProgressLines()).weights
    trends = build_trends(config, before, dataset.n_items)
    since = None if before.times is None else int(before.times.max())
    largest = config.replace(ranker_samples=max(counts))
    ranker_dataset = build_dataset(
        largest, build_tables(config, before, dataset.n_items), last, dataset.min_prefix, past_weights, options.work,
        "ranker", Silent(), since, trends,
    )  # fmt: skip
    total = len(ranker_dataset.targets) + ranker_dataset.left_out
    serving: dict[str, Any] = {
        "config": config,
        "weights": whole_weights or _no_encoder(config, dataset.n_items),
        "ids": dataset.ids,
        "popularity": np.bincount(known.items, minlength=dataset.n_items).astype(np.int64),
        "memory": build_tables(config, known, dataset.n_items),
        "clicked_at": known.times,
        "trends": build_trends(config, known, dataset.n_items),
    }
    samples = Samples.from_sessions(held_out, dataset.min_prefix)
    for count, seed in missing:
        ranker, seconds = _fitted(config, ranker_dataset, count / total, seed, timed=trends is not None)
        report = report_of(served_ranks(Model.of(**serving, ranker_net=ranker), samples), samples)
        line = {
            **identity, "asked": min(count, total), "seed": seed, "of": total, "fit_cpu_seconds": round(seconds, 1),
            "validation_samples": len(samples),
            **{name: round(value, 3) for name, value in report.metrics.items()},
            "intervals": {name: [round(end, 2) for end in ends] for name, ends in report.intervals.items()},
        }  # fmt: skip
        with options.out.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print({key: line[key] for key in ("dataset", "asked", "seed", *_SHOWN)}, file=sys.stderr, flush=True)


def _fitted(
    config: Config, ranker_dataset: RankerDataset, share: float, seed: int, *, timed: bool
) -> tuple[RankerNet, float]:
    """Fit a ranker on a share of the samples; return it with the processor seconds of the fit."""
    count = round(min(share, 1.0) * len(ranker_dataset.targets))
    subset = ranker_dataset.subset(np.flatnonzero(evenly(len(ranker_dataset.targets), count)))
    began = time.process_time()
    fit = fit_settings(config, timed=timed)
    ranker, _ = fit_ranker(subset, subset.targets, subset.lengths, fit, seed, "ranker", Silent())
    return ranker, time.process_time() - began


def _no_encoder(config: Config, n_items: int) -> dict[str, np.ndarray]:
    """Return weights for a bundle whose ranking never uses the encoder."""
    from mtaw_fast.model.mtaw import MTAW

    model = MTAW(config, n_items).draw_weights(0)
    return {name: value.detach().numpy() for name, value in model.named_parameters()}


def _is(line: dict[str, Any], same: dict[str, Any], count: int, seed: int) -> bool:
    """Return whether a line is about `count` samples, or about all if there are fewer."""
    return line | {**same, "seed": seed} == line and line["asked"] == min(count, line["of"])


if __name__ == "__main__":
    sys.exit(main())
