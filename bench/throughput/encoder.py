"""The native encoder by session length, whole and click by click, against eager PyTorch and numpy.

python -m bench.throughput.encoder [--quick] [--json FILE]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.harness.comparison import Plan, limit_threads
from bench.harness.report import Report, bench_parser, command, parse
from bench.harness.workload import generated
from mtaw_fast.errors import require

CATALOG = 40_727
LENGTHS = (1, 3, 10, 30, 100, 512)
QUICK_LENGTHS = (1, 10, 100)

_PLAN = Plan(rounds=200, burst=5, settle=2, seconds=6.0)
_QUICK_PLAN = Plan(rounds=100, burst=5, settle=2, seconds=2.0)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an answer was wrong)."""
    parser = bench_parser("throughput.encoder", (__doc__ or "").splitlines()[0])
    options = parse(parser, argv)
    for package in ("torch", "faiss", "rich"):
        require(package, "bench")
    with limit_threads(1), tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as folder:
        return _run(Path(folder) / "bundle", options.quick, options.json)


def _run(folder: Path, quick: bool, json: Path | None) -> int:
    # PyTorch loads here, so that --help and a misuse answer at once.
    from bench.throughput.encoder_cases import EncoderCases

    report = Report("encoder", quick)
    workload = generated(CATALOG, folder)
    for clicks in QUICK_LENGTHS if quick else LENGTHS:
        print(f"measuring sessions of {clicks} clicks ..", file=sys.stderr, flush=True)
        cases = EncoderCases(workload, clicks, _QUICK_PLAN if quick else _PLAN)
        report.run(cases.encode())
        if clicks < workload.bundle.config.model.max_session_length:
            report.run(cases.append())
    return report.finish(json)


if __name__ == "__main__":
    raise SystemExit(main())
