"""Training: the loss, forward and backward, against PyTorch's own ways, and a whole epoch with its floor.

python -m bench.training [--quick] [--threads N] [--data FOLDER] [--json FILE]
python -m bench.training --preset NAME --data FOLDER [--threads N] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.harness.comparison import Plan, limit_threads
from bench.harness.report import Report, Row, bench_parser, command, parse, say
from mtaw_fast.config import PRESETS
from mtaw_fast.errors import UsageError
from mtaw_fast.system.cpus import usable_cpus

N_ITEMS = 40_727
MANY_ITEMS = 500_000
SHAPES: Sequence[Mapping[str, Any]] = (
    {"rows": 512, "items": N_ITEMS},
    {"rows": 2048, "items": N_ITEMS},
    {"rows": 512, "items": N_ITEMS, "gamma": 0.0},
    {"rows": 512, "items": MANY_ITEMS},
)

_LOSS = Plan(rounds=20, burst=1, settle=0, warmup=1, seconds=40.0, min_rounds=3)
_QUICK_LOSS = Plan(rounds=8, burst=1, settle=0, warmup=1, seconds=10.0, min_rounds=3)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an answer was wrong)."""
    parser = bench_parser("training", __doc__)
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="a data set made by 'mtaw-fast prepare': adds the case epoch"
    )
    parser.add_argument(
        "--threads", type=int, default=usable_cpus(), metavar="N", help="threads of every contender (default: all)"
    )
    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        help="a whole training of this preset on --data alone, as `mtaw-fast train`",
    )
    options = _checked(parse(parser, argv, ("torch", "rich")))
    import torch  # noqa: F401  # loaded before its threads are limited

    with limit_threads(options.threads):
        return _run(options)


def _checked(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options; UsageError if one would be ignored."""
    if options.preset is not None:
        if options.data is None:
            raise UsageError("--preset trains on a data set: give its --data")
        if options.quick:
            raise UsageError("--preset trains as `mtaw-fast train`: leave out --quick")
    elif options.quick and options.data is not None:
        raise UsageError("--quick measures the loss alone: leave out --data")
    return options


def _run(options: argparse.Namespace) -> int:
    report = Report("training", options.quick)
    if options.preset is not None:
        _measure_training(report, options)
        return report.finish(options.json)
    for shape in SHAPES[:1] if options.quick else SHAPES:
        _measure_loss(report, shape, options)
    if options.data is not None:
        from bench.training.epoch_case import epoch_case
        from mtaw_fast.data.dataset import Dataset

        say("measuring a whole epoch")
        report.run(epoch_case(Dataset.load(options.data), options.threads))
    else:
        report.notes.append("epoch: left out; give it a data set with --data")
    return report.finish(options.json)


def _measure_loss(report: Report, sizes: Mapping[str, Any], options: argparse.Namespace) -> None:
    # PyTorch loads here, so that --help and a misuse answer at once.
    from bench.training.loss_case import loss_case, memory_rows
    from bench.training.loss_peers import LossInputs, LossShape, peers_for

    shape = LossShape(**sizes)
    say(f"measuring aw_loss, {shape.describe()}: choosing the peers' settings")
    inputs = LossInputs.of(shape)
    peers = peers_for(inputs, report.notes)
    say(f"measuring aw_loss, {shape.describe()}")
    case = loss_case(inputs, peers, options.threads, _QUICK_LOSS if options.quick else _LOSS)
    comparison = report.run(case)
    if comparison is None:
        return
    right = [peer for peer in peers if peer.name not in comparison.refused]
    params = case.params
    del inputs, case, comparison  # gigabytes at 500k items
    say(f"measuring peak memory of aw_loss, {shape.describe()}")
    report.rows += memory_rows(shape, right, params, options.threads)


def _measure_training(report: Report, options: argparse.Namespace) -> None:
    from mtaw_fast import train
    from mtaw_fast.data.dataset import Dataset

    dataset = Dataset.load(options.data)
    say(f"training {options.preset} on {dataset.name}")
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as folder:
        clock, processor = time.perf_counter(), time.process_time()
        bundle = train(dataset, Path(folder) / "bundle", options.preset, threads=options.threads)
        seconds = {"train_s": time.perf_counter() - clock, "train_processor_s": time.process_time() - processor}
    params = {
        "catalog": dataset.n_items, "d": bundle.config.model.embedding_dim, "data": dataset.name,
        "preset": options.preset, "threads": options.threads,
    }  # fmt: skip
    report.rows += [Row.of("training", "train", params, metric, value) for metric, value in seconds.items()]


if __name__ == "__main__":
    raise SystemExit(main())
