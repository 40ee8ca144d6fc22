"""Throughput of the main path: encode, retrieve, memory and recommend, against PyTorch + FAISS.

A bundle with times is measured first, against the same bundle without them; the other cases are of the latter.

python -m bench.throughput [--quick] [--data FOLDER] [--bundle FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.harness.comparison import Plan, limit_threads
from bench.harness.report import Report, bench_parser, command, parse, say
from bench.harness.workload import TIMED, Workload, from_bundle, from_data, generated, generated_with_times

if TYPE_CHECKING:
    from bench.throughput.cases import ServingCases

SIZES = (10_000, 40_727)
QUICK_SIZES = (40_727,)
BATCHES = (1, 256)
QUICK_BATCHES = (1,)
K = 20
TIMES_RATIO = 1.15  # the target of a bundle with times over the same without

_SERVING = Plan(rounds=200, burst=5, settle=2, seconds=10.0)
_QUICK_SERVING = Plan(rounds=120, burst=5, settle=2, seconds=3.0)
_RATE = Plan(rounds=40, burst=1, settle=0, warmup=1, seconds=10.0)
_QUICK_RATE = Plan(rounds=12, burst=1, settle=0, warmup=1, seconds=2.0, min_rounds=3)
_WORKERS = 2
_RATE_CALLS = 100  # of each worker in a burst: far above what it takes to wake the workers


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an answer was wrong)."""
    parser = bench_parser("throughput", __doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="a data set made by 'mtaw-fast prepare'")
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="a trained bundle (default: random weights)")
    options = parse(parser, argv, ("torch", "faiss", "rich", "onnx", "onnxruntime"))
    with limit_threads(1):
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    report = Report("throughput", options.quick)
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as folder:
        for number, workload in enumerate(_workloads(options, Path(folder))):
            if workload.bundle.model.trends is not None:
                workload = _measure_times(report, workload, options, Path(folder) / f"without-times-{number}")
            if workload.source != TIMED:
                _measure(report, workload, options)
    return report.finish(options.json)


def _workloads(options: argparse.Namespace, folder: Path) -> Iterator[Workload]:
    if options.data is not None:
        yield from_data(options.data, options.bundle, folder / "bundle")
    elif options.bundle is not None:
        yield from_bundle(options.bundle)
    else:
        yield generated_with_times(QUICK_SIZES[0], folder / "with-times")
        for n_items in QUICK_SIZES if options.quick else SIZES:
            yield generated(n_items, folder / f"bundle-{n_items}")


def _measure_times(report: Report, workload: Workload, options: argparse.Namespace, folder: Path) -> Workload:
    """Measure what the bundle's times and types of clicks cost, and return the workload without times."""
    from bench.throughput.variants import times_case, types_case, with_types, without_times

    plain, typed = without_times(workload, folder), with_types(workload, folder.with_name("with-types"))
    serving = _QUICK_SERVING if options.quick else _SERVING
    for what, make, target in (
        ("times", lambda: times_case(workload, plain, K, serving), f"; target {TIMES_RATIO:g} x"),
        ("types", lambda: types_case(workload, typed, K, serving), ""),
    ):
        say(f"measuring recommend-{what}, {workload.bundle.n_items} items")
        result = report.run(make())
        if result is not None:
            ours, theirs = result.ours.median * 1e6, result.baselines[0].median * 1e6
            report.notes.append(
                f"recommend-{what}, {workload.bundle.n_items} items: p50 {ours:.1f} us, {theirs:.1f} without {what}, "
                f"{ours / theirs:.2f} x{target}"
            )
    return plain


def _measure(report: Report, workload: Workload, options: argparse.Namespace) -> None:
    # PyTorch and FAISS load here, so that --help and a misuse answer at once.
    from bench.harness.eager_faiss import EagerFaiss
    from bench.throughput.cases import ServingCases
    from mtaw_fast.recommender import Recommender

    bundle = workload.bundle
    ours = Recommender.load(bundle.folder, encoder="native", index="native")
    theirs = EagerFaiss(bundle.config, bundle.weights, bundle.ids.external(np.arange(bundle.n_items)))
    for batch in QUICK_BATCHES if options.quick else BATCHES:
        cases = ServingCases(workload, ours, theirs, batch, K, _QUICK_SERVING if options.quick else _SERVING)
        makers = [cases.recommend, cases.encode, cases.retrieve, *([cases.memory] if bundle.memory is not None else [])]
        for make_case in makers:
            say(f"measuring {make_case.__name__}, {bundle.n_items} items, batch {batch}")
            report.run(make_case())
        if batch == 1:
            report.notes.append(_rates(report, cases, options.quick))


def _rates(report: Report, cases: ServingCases, quick: bool) -> str:
    """Measure one worker against several; describe the calls a second of each."""
    rates = []
    for case in cases.rates(_WORKERS, _RATE_CALLS, _QUICK_RATE if quick else _RATE):
        name = f"{case.params['workers']} {case.params['by']}"
        say(f"measuring {case.name}, {name}")
        result = report.run(case)
        if result is not None:
            rates.append(f"{name} {case.params['calls'] / result.ours.median:.0f}")
    return f"recommend, {cases.workload.bundle.n_items} items, batch 1, calls a second: {', '.join(rates)}"


if __name__ == "__main__":
    raise SystemExit(main())
