"""Retrieval: the exact and the approximate index against FAISS.

python -m bench.retrieval [--quick] [--items N[,N]] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.harness.comparison import Plan, limit_threads
from bench.harness.report import Report, bench_parser, command, parse, say, whole_numbers
from bench.retrieval.vectors import VectorSet, generated_set

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
    parser = bench_parser("retrieval", __doc__)
    parser.add_argument(
        "--items", metavar="N[,N]", help=f"sizes of generated catalogs (default: {','.join(map(str, SIZES))})"
    )
    options = parse(parser, argv, ("faiss", "rich"))
    sizes: Sequence[int] = QUICK_SIZES if options.quick else SIZES
    if options.items is not None:
        sizes = whole_numbers("--items", options.items, minimum=1000)
    report = Report("retrieval", options.quick)
    with limit_threads(1):
        for n_items in sizes:
            _measure(report, generated_set(n_items), options.quick)
    return report.finish(options.json)


def _measure(report: Report, vectors: VectorSet, quick: bool) -> None:
    # FAISS loads here, so that --help and a misuse answer at once.
    from bench.harness.floors import scan_floor
    from bench.retrieval.cases import RetrievalCases, ann_index_for
    from mtaw_fast.kernels.native.scan import whole
    from mtaw_fast.ranking.retrieval import make_index

    n_items = len(vectors.catalog)
    exact = make_index("native", vectors.catalog, vectors.codes)
    blocks = whole(vectors.codes)["blocks"]
    cases = RetrievalCases(vectors, exact, scan_floor(blocks), _QUICK_PLAN if quick else _PLAN)
    for batch in (1,) if quick else (1, BATCH):
        say(f"exact search, {n_items:,} items, batch {batch}")
        report.run(cases.exact_case(batch, _BATCH_PLAN if batch > 1 else cases.plan))
    if quick or n_items < _ANN_ITEMS:
        reason = "building one takes too long for --quick" if quick else "the exact index is as fast"
        report.notes.append(f"no approximate index over {n_items:,} items: {reason}")
        return
    ann = ann_index_for(vectors, exact, TARGET, _CACHE, say)
    say(f"approximate index, {n_items:,} items")
    report.run(cases.ann_case(ann, TARGET))


if __name__ == "__main__":
    raise SystemExit(main())
