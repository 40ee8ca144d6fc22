"""The HTTP service under an open-loop load: Poisson arrivals of distinct synthetic sessions, latency from the due time.

python -m bench.serving [--quick] [--items N[,N]] [--rates R[,R]] [--curve] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.harness.machine import usable_cores
from bench.harness.report import Report, bench_parser, command, parse, say, whole_numbers
from mtaw_fast.errors import UsageError

if TYPE_CHECKING:
    from bench.serving.traffic import Measured
    from mtaw_fast.data.sessions import Sessions

K = 20
RATES = {10_000: 1000.0, 100_000: 1000.0, 1_000_000: 500.0}
QUICK_SIZE = 1_000_000
RECALL = 0.99  # least recall@20 of the approximate index of a large catalog
_CHECKED = 0.01  # of the answers
_SLO_MS = 50.0  # ETUDE's bound on p90: a rate above it is over the service's limit
CURVE_FROM, _CURVE_STEP, _CURVE_MAX = 250.0, 1.5, 20_000.0
CACHE = Path("build/bench-serving")
WORKERS, CONNECTIONS, RAMP = usable_cores(), 64, 3.0  # of the service, of the client; seconds up to the full rate


@dataclass(frozen=True, slots=True)
class _Served:
    """A bundle to serve. index: the one that `auto` chooses for it."""

    folder: Path
    n_items: int
    index: str


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status: 1 if an answer was wrong, or no request was answered."""
    parser = bench_parser("serving", __doc__, "under a minute: 1M items at 500 a second")
    parser.add_argument("--items", metavar="N[,N]", help=f"catalogs (default: {','.join(map(str, RATES))})")
    parser.add_argument("--rates", metavar="R[,R]", help="requests a second (default: by catalog)")
    parser.add_argument("--bare", action="store_true", help="a bare ASGI app instead: the floor of the front")
    parser.add_argument("--curve", action="store_true", help="raise the rate until p90 is over 50 ms or answers fail")
    parser.add_argument("--seconds", type=float, help="at the full rate (default: 20; --quick 10; --curve 6 a step)")
    options = parse(parser, argv, ("uvicorn", "psutil", "rich"))
    for name in ("items", "rates"):
        text = getattr(options, name)
        setattr(options, name, None if text is None else whole_numbers(f"--{name}", text))
    if options.seconds is not None and options.seconds <= 0:
        raise UsageError(f"--seconds {options.seconds:g}: give a time over 0")
    report = Report("serving", options.quick)
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as name:
        for served in _bundles(options):
            _loads(report, served, options, Path(name))
    report.notes.append(
        "ms from the time a request was due to its whole answer, after the ramp; client and service share the "
        f"machine's {usable_cores()} cores ({WORKERS} workers)"
    )
    return report.finish(options.json)


def _bundles(options: argparse.Namespace) -> Iterator[_Served]:
    from bench.serving.inputs import catalog_bundle, with_ann_index
    from mtaw_fast.ranking.retrieval import EXACT_ITEMS

    for n_items in options.items or ([QUICK_SIZE] if options.quick else RATES):
        plain = catalog_bundle(n_items, CACHE, say)
        yield _Served(plain, n_items, "native")
        if n_items > EXACT_ITEMS and not options.quick:
            yield _Served(with_ann_index(plain, RECALL, say), n_items, "ann")


def _loads(report: Report, served: _Served, options: argparse.Namespace, work: Path) -> None:
    """Run every rate on one service, then check its answers."""
    from bench.serving.inputs import distinct_sessions, recommend_requests
    from bench.serving.service_process import Service
    from bench.serving.traffic import Traffic, measure
    from mtaw_fast.bundle import Bundle

    seconds = options.seconds or (10.0 if options.quick else 6.0 if options.curve else 20.0)
    external = Bundle.load(served.folder, verify=False).ids.external
    runs: list[tuple[Measured, Sessions]] = []
    python = ("-m", "bench.serving.bare") if options.bare else ("-m", "mtaw_fast")
    environment = {"OMP_NUM_THREADS": "1"}
    with Service(served.folder, work / "service.log", WORKERS, environment=environment, python=python) as service:
        for seed, rate in enumerate(_rates(options, served.n_items)):
            traffic = Traffic(rate, RAMP, seconds, seed, CONNECTIONS)
            sessions = distinct_sessions(served.n_items, traffic.max_requests, seed)
            say(f"{served.n_items:,} items, {served.index}: {rate:g} requests a second")
            measured = measure(service, recommend_requests(sessions, external, K), traffic, _CHECKED)
            if not len(measured.latencies):
                report.refuse(f"{served.n_items} items at {rate:g} a second: no answers ({measured.error_kinds})")
                break
            runs.append((measured, sessions))
            if options.curve and _overloaded(measured):
                break
    for measured, sessions in runs:
        if options.bare:
            report.notes += _costs(f"bare app, {measured.traffic.rate:g} a second", measured)
        else:
            _keep(report, served, measured, sessions)


def _rates(options: argparse.Namespace, n_items: int) -> Iterator[float]:
    if options.rates is not None:
        yield from options.rates
    elif options.curve:
        rate = CURVE_FROM
        while rate <= _CURVE_MAX:
            yield round(rate)
            rate *= _CURVE_STEP
    else:
        yield RATES.get(n_items, 500.0)


def _overloaded(measured: Measured) -> bool:
    """Return whether the rate is above what the service can do."""
    behind = measured.answered < 0.95 * measured.offered
    return behind or measured.percentile(90) > _SLO_MS or measured.errors > 0.01 * len(measured.outcome.due)


def _keep(report: Report, served: _Served, measured: Measured, sessions: Sessions) -> None:
    """Check the kept answers; if they are right, add a row to the report."""
    from bench.serving.checks import checked, parse_answer

    name = f"{served.n_items:,} items, {served.index}, {measured.traffic.rate:g} a second"
    answers = {n: parse_answer(data) for n, data in measured.outcome.kept.items() if measured.outcome.status[n] == 200}
    error, recall, recall_error = checked(served.folder, sessions, answers, K)
    least = RECALL if served.index == "ann" else 1.0
    # Three standard errors below is not chance.
    if error is None and recall + 3 * recall_error < least:
        error = f"recall@{K} of {len(answers)} answers is {recall:.4f}, less than {least:g}"
    if error is not None:
        report.refuse(f"{name}: {error}; no latency is reported")
        return
    params = {
        "catalog": served.n_items, "k": K, "index": served.index,
        "clicks": round(float(sessions.lengths.mean()), 2), "workers": WORKERS,
    }  # fmt: skip
    report.rows.append(measured.row(params, checked=len(answers), recall=recall))
    report.notes += [
        *_costs(name, measured),
        f"{name}: {len(answers)} answers are those of offline rankings, recall@{K} {recall:.4f}",
    ]


def _costs(name: str, measured: Measured) -> list[str]:
    latencies = ", ".join(f"p{percent:g} {measured.percentile(percent):.2f}" for percent in (50, 90, 99, 99.9))
    return [
        f"{name}: {latencies} ms; {measured.answered:.0f} answers a second; errors: {measured.error_kinds or 'none'}",
        f"{name}: {measured.server_cpu * 1e6:.0f} us of the service's processor time a request, "
        f"{measured.client_cpu * 1e6:.0f} of the client's, which is late by {measured.lateness(99):.2f} ms (p99); "
        f"{measured.others:.0%} of the machine is used by others",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
