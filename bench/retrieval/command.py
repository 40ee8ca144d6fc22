"""Retrieval: the exact and the approximate index against FAISS.

python -m bench.retrieval [--quick] [--items N[,N]] [--bundle FOLDER [--data FOLDER]] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.harness.comparison import Plan, limit_threads
from bench.harness.report import Report, bench_parser, command, parse, say, whole_numbers
from bench.retrieval.vectors import VectorSet, generated_set, trained_set
from mtaw_fast.errors import UsageError, require

SIZES = (40_727, 1_000_000)
QUICK_SIZES = (40_727,)
BATCH = 256
TARGET = 0.99
_ANN_ITEMS = 100_000  # below, no approximate index: the exact one is as fast
_CACHE = Path("build/bench-retrieval")

_PLAN = Plan(rounds=120, burst=5, settle=2, seconds=25.0)
_BATCH_PLAN = Plan(rounds=20, burst=1, settle=0, warmup=1, seconds=25.0)
_QUICK_PLAN = Plan(rounds=120, burst=5, settle=2, seconds=4.0)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an answer was wrong)."""
    parser = bench_parser("retrieval", (__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--items", metavar="N[,N]", help=f"sizes of generated catalogs (default: {','.join(map(str, SIZES))})"
    )
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="a trained bundle's catalog in their place")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="queries from this data set's test (with --bundle)")
    parser.add_argument("--index", default="native", help="the exact index to measure (default: native)")
    parser.add_argument("--kind", default="ivfpq", help="the approximate index's kind: ivfpq or hnsw (default: ivfpq)")
    parser.add_argument(
        "--recall", type=float, default=TARGET, help=f"least recall@20 of an approximate index (default: {TARGET})"
    )
    parser.add_argument(
        "--cache", type=Path, default=_CACHE, metavar="FOLDER", help=f"built indexes (default: {_CACHE})"
    )
    options = parse(parser, argv)
    if options.data is not None and options.bundle is None:
        raise UsageError("--data gives the queries for a trained catalog; name its --bundle")
    for package in ("faiss", "rich"):
        require(package, "bench")
    with limit_threads(1):
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    report = Report("retrieval", options.quick)
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as folder:
        for vectors in _sets(options, Path(folder)):
            _measure(report, vectors, options)
    return report.finish(options.json)


def _sets(options: argparse.Namespace, folder: Path) -> Iterator[VectorSet]:
    if options.bundle is not None:
        yield trained_set(options.bundle, options.data, folder)
        return
    sizes: Sequence[int] = QUICK_SIZES if options.quick else SIZES
    if options.items is not None:
        sizes = whole_numbers("--items", options.items, minimum=1000)
    for n_items in sizes:
        yield generated_set(n_items)


def _measure(report: Report, vectors: VectorSet, options: argparse.Namespace) -> None:
    # FAISS loads here, so that --help and a misuse answer at once.
    from bench.harness.floors import batch_scan_floor, scan_floor
    from bench.retrieval.cases import RetrievalCases, ann_index_for
    from mtaw_fast.kernels.native.scan import whole
    from mtaw_fast.ranking.retrieval import make_index

    n_items = len(vectors.catalog)
    exact = make_index(options.index, vectors.catalog, vectors.codes)
    blocks = whole(vectors.codes)["blocks"]
    cases = RetrievalCases(
        vectors, exact, scan_floor(blocks), batch_scan_floor(BATCH, blocks), _QUICK_PLAN if options.quick else _PLAN
    )
    for batch in (1,) if options.quick else (1, BATCH):
        say(f"exact search, {n_items:,} items, batch {batch}")
        report.run(cases.exact_case(batch, _BATCH_PLAN if batch > 1 else cases.plan))
    if options.quick or (n_items < _ANN_ITEMS and vectors.ann is None):
        reason = "building one takes too long for --quick" if options.quick else "the exact index is as fast"
        report.notes.append(f"no approximate index over {n_items:,} items: {reason}")
        return
    ann = ann_index_for(vectors, exact, options.kind, options.recall, options.cache, say)
    say(f"approximate index, {n_items:,} items")
    report.run(cases.ann_case(ann, options.recall))
