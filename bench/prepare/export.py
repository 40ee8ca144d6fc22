"""The exported ONNX graphs of a bundle: sizes, latencies by variant and by session options.

python -m bench.prepare.export --bundle tmall.bundle [--quick] [--json FILE]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.harness.comparison import Plan, limit_threads
from bench.harness.report import Report, bench_parser, command, parse
from mtaw_fast.errors import require

LENGTHS = (1, 10, 50, 512)
QUICK_LENGTHS = (10,)

_PLAN = Plan(rounds=200, burst=5, settle=2, seconds=12.0)
_QUICK_PLAN = Plan(rounds=60, burst=5, settle=2, seconds=4.0)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an answer was wrong)."""
    parser = bench_parser("prepare.export", (__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True, help="a bundle after 'mtaw-fast export BUNDLE --onnx'")
    options = parse(parser, argv)
    for package, extra in (("torch", "train"), ("onnxruntime", "cpu"), ("faiss", "cpu"), ("rich", "train")):
        require(package, extra)
    with limit_threads(1):
        return _run(options.bundle, options.quick, options.json)


def _run(bundle: Path, quick: bool, json: Path | None) -> int:
    # ONNX Runtime and PyTorch load here, so that --help and a misuse answer at once.
    from bench.prepare.export_cases import ExportCases

    report = Report("export", quick)
    plan = _QUICK_PLAN if quick else _PLAN
    cases = ExportCases(bundle, plan)
    for clicks in QUICK_LENGTHS if quick else LENGTHS:
        if clicks <= cases.bundle.config.model.max_session_length:
            print(f"measuring sessions of {clicks} clicks ..", file=sys.stderr, flush=True)
            report.run(cases.encode(clicks))
            report.run(cases.recommend(clicks))
            report.run(cases.session_options(clicks))
    report.notes += cases.sizes()
    return report.finish(json)


if __name__ == "__main__":
    raise SystemExit(main())
