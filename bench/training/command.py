"""Training: the loss, forward and backward, against PyTorch's own ways, and a whole epoch with its floor.

python -m bench.training [--quick] [--threads N] [--backend NAME] [--data FOLDER] [--json FILE]
python -m bench.training --small-batch [--quick] [--threads N] [--backend NAME] [--data FOLDER] [--json FILE]
python -m bench.training --shared [--busy K] [--quick] [--threads N] [--backend NAME] [--json FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.harness.comparison import Plan, limit_threads
from bench.harness.report import Report, bench_parser, exit_code_of, parse
from bench.training.loss_shapes import LossShape
from mtaw_fast.errors import MtawError, UsageError, require
from mtaw_fast.system.cpus import usable_cpus

N_ITEMS = 40_727
MANY_ITEMS = 500_000
SHAPES = (
    LossShape(512, N_ITEMS),
    LossShape(2048, N_ITEMS),
    LossShape(512, N_ITEMS, gamma=0.0),
    LossShape(512, MANY_ITEMS),
)
QUICK_SHAPES = SHAPES[:1]

_LOSS = Plan(rounds=20, burst=1, settle=0, warmup=1, seconds=40.0, min_rounds=3)
_QUICK_LOSS = Plan(rounds=8, burst=1, settle=0, warmup=1, seconds=10.0, min_rounds=3)
_SHARED = Plan(rounds=9, burst=1, settle=0, warmup=1, seconds=120.0, min_rounds=5)
_QUICK_SHARED = Plan(rounds=5, burst=1, settle=0, warmup=1)
_SMALL_BATCH = Plan(rounds=12, burst=1, settle=0, warmup=1, seconds=240.0, min_rounds=5)
_QUICK_SMALL_BATCH = Plan(rounds=5, burst=1, settle=0, warmup=1)
_SMALL_BATCH_STEPS = 4
_QUICK_SMALL_BATCH_STEPS = 1
_SHARED_STEPS = 6
_QUICK_SHARED_STEPS = 2
_BUSY_A_CORE = 3
_STAGE_STEPS = 24
_QUICK_STAGE_STEPS = 6


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; returns the exit status (1 where an answer was wrong)."""
    parser = bench_parser("training", (__doc__ or "").splitlines()[0])
    parser.add_argument("--backend", default="auto", help="our loss's backend (default: auto)")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="a data set made by 'mtaw-fast prepare': adds the case epoch (--quick: a step's stages alone)",
    )
    parser.add_argument(
        "--threads", type=int, default=usable_cpus(), metavar="N", help="threads of every contender (default: all)"
    )
    parser.add_argument(
        "--small-batch",
        action="store_true",
        help="the case small-batch alone: an epoch in batches of 100 against one of 1,024; fails where it takes longer "
        "than 2.5 times as much processor time",
    )
    parser.add_argument(
        "--shared",
        action="store_true",
        help="the case shared alone: a few training steps with N threads and with one, beside busy processes; fails "
        "where N take longer than 1.3 times what one takes",
    )
    parser.add_argument(
        "--busy", type=int, metavar="K", help=f"with --shared: busy processes (default: {_BUSY_A_CORE} a core; 0: none)"
    )
    try:
        options = parse(parser, argv)
        for package in ("torch", "rich"):
            require(package, "bench")
        import torch  # noqa: F401  # loaded before its threads are limited

        with limit_threads(options.threads):
            return _run(options)
    except MtawError as error:
        return exit_code_of(error)


def _run(options: argparse.Namespace) -> int:
    report = Report("training")
    if options.small_batch:
        _measure_small_batch(report, options)
        return report.finish(options.json)
    if options.shared:
        _measure_shared(report, options)
        return report.finish(options.json)
    for shape in QUICK_SHAPES if options.quick else SHAPES:
        _measure_loss(report, shape, options)
    if options.data is not None:
        _measure_epoch(report, options)
    else:
        report.notes.append("epoch: left out; give it a data set with --data")
    return report.finish(options.json)


def _measure_loss(report: Report, shape: LossShape, options: argparse.Namespace) -> None:
    # PyTorch loads here, so that --help and a misuse answer at once.
    from bench.training.loss_case import loss_case, memory_lines
    from bench.training.loss_inputs import LossInputs
    from bench.training.loss_peers import peers_for

    _say(f"aw_loss, {shape.describe()}: choosing the peers' settings")
    inputs = LossInputs.of(shape)
    peers = peers_for(inputs, report.notes)
    _say(f"aw_loss, {shape.describe()}")
    case = loss_case(inputs, peers, options.backend, options.threads, _QUICK_LOSS if options.quick else _LOSS)
    comparison = report.run(case)
    if comparison is None:
        return
    right = [peer for peer in peers if peer.name not in comparison.refused]
    params = case.params
    del inputs, case, comparison  # gigabytes at 500k items
    _say(f"peak memory of aw_loss, {shape.describe()}")
    report.lines += memory_lines(shape, right, params, options.threads)


def _measure_epoch(report: Report, options: argparse.Namespace) -> None:
    from bench.training.epoch_case import EpochBench, stages_in_words
    from mtaw_fast.config import Config
    from mtaw_fast.data.dataset import Dataset

    bench = EpochBench(Dataset.load(options.data), Config.of(loss_backend=options.backend), options.threads)
    if options.quick:
        report.notes.append("epoch: left out by --quick")
    else:
        _say("a whole epoch")
        report.run(bench.case())
    _say("the stages of a step")
    report.notes.append(stages_in_words(bench.stages(_QUICK_STAGE_STEPS if options.quick else _STAGE_STEPS)))


def _measure_small_batch(report: Report, options: argparse.Namespace) -> None:
    from bench.training.batch_case import LARGE, LIMIT, SMALL, BatchBench, name_of
    from mtaw_fast.data.dataset import Dataset

    dataset = None if options.data is None else Dataset.load(options.data)
    steps = _QUICK_SMALL_BATCH_STEPS if options.quick else _SMALL_BATCH_STEPS
    bench = BatchBench(dataset, N_ITEMS, options.threads, steps, backend=options.backend)
    _say(f"training steps in batches of {SMALL} and of {LARGE}, in turns")
    comparison = report.run(bench.case(_QUICK_SMALL_BATCH if options.quick else _SMALL_BATCH))
    if comparison is None:
        return
    timings = (comparison.ours, *comparison.baselines)
    wall = bench.times({batch: t.seconds for batch in (SMALL, LARGE) for t in timings if t.name == name_of(batch)})
    processor = bench.times(bench.processor_seconds())
    told = f"an epoch in batches of {SMALL} takes {processor:.2f} times the processor time of one in batches of {LARGE}"
    report.notes.append(f"{told}, {wall:.2f} times the time (medians of {comparison.ours.n} turns; at most {LIMIT})")
    if processor > LIMIT:
        report.refuse(f"small-batch: {told}, more than {LIMIT}")


def _measure_shared(report: Report, options: argparse.Namespace) -> None:
    from bench.training.shared_case import LIMIT, SharedBench, busy_processes, median_of_pairs

    busy = _BUSY_A_CORE * usable_cpus() if options.busy is None else options.busy
    if busy < 0 or options.threads < 2:
        raise UsageError("--shared needs --busy 0 or more, and at least --threads 2 to hold against one")
    steps = _QUICK_SHARED_STEPS if options.quick else _SHARED_STEPS
    bench = SharedBench.of(
        N_ITEMS, options.threads, busy, steps, backend=options.backend, barriers=not options.quick
    )  # fmt: skip
    _say(f"{steps} training steps with {options.threads} threads and with one beside {busy} busy processes")
    with busy_processes(busy):
        comparison = report.run(bench.case(_QUICK_SHARED if options.quick else _SHARED))
    if comparison is None:
        return
    times = median_of_pairs(comparison)
    told = f"beside {busy} busy processes {options.threads} threads take {times:.2f} times what one takes"
    report.notes.append(f"{told} (median of {len(comparison.ours.seconds)} pairs; at most {LIMIT})")
    if times > LIMIT:
        report.refuse(f"shared: {told}, more than {LIMIT}")


def _say(what: str) -> None:
    print(f"measuring {what} ..", file=sys.stderr, flush=True)
