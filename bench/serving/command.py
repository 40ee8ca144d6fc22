"""The HTTP service under an open-loop load: Poisson arrivals of distinct synthetic sessions, latency from the due time.

python -m bench.serving [--quick] [--items N[,N]] [--rates R[,R]] [--curve] [--bare] [--reloads N] [--kills N]
                        [--json FILE]
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.harness.machine import usable_cores
from bench.harness.report import Report, bench_parser, exit_code_of, parse, say
from mtaw_fast.errors import MtawError, UsageError, require

if TYPE_CHECKING:
    from bench.serving.traffic import Measured, Traffic
    from mtaw_fast.data.sessions import Sessions

K = 20
RATES = {10_000: 1000.0, 100_000: 1000.0, 1_000_000: 500.0}
QUICK_SIZE = 1_000_000
FAULT_SIZE = 100_000
AIMS = {(1_000_000, 500.0): 10.0, (100_000, 1000.0): 5.0}  # (items, requests a second): p90 in ms
REQUEST_US = 150.0  # the target of a request's processor time, sockets included
RECALL = 0.99
_CHECKED = 0.01  # of the answers
_SLO_MS = 50.0  # ETUDE's bound on p90: a rate above it is over the service's limit
CURVE_FROM, _CURVE_STEP, _CURVE_MAX = 250.0, 1.5, 20_000.0
_CACHE = Path("build/bench-serving")


@dataclass(frozen=True, slots=True)
class _Served:
    """A bundle to serve. index: the one that `auto` chooses for it."""

    folder: Path
    n_items: int
    index: str


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status: 1 if an answer was wrong, or a request failed without a reason."""
    try:
        options = _checked(parse(_parser(), argv))
        for package in ("uvicorn", "psutil"):
            require(package, "bench")
        return _run(options)
    except MtawError as error:
        return exit_code_of(error)


def _parser() -> argparse.ArgumentParser:
    parser = bench_parser("serving", (__doc__ or "").splitlines()[0], "under a minute: 1M items at 500 a second")
    parser.add_argument("--items", metavar="N[,N]", help=f"catalogs (default: {','.join(map(str, RATES))})")
    parser.add_argument("--rates", metavar="R[,R]", help="requests a second (default: by catalog)")
    parser.add_argument("--curve", action="store_true", help="raise the rate until p90 is over 50 ms or answers fail")
    parser.add_argument("--reloads", type=int, metavar="N", help=f"only: N hot reloads in a load, {FAULT_SIZE:,} items")
    parser.add_argument("--kills", type=int, metavar="N", help="only: N workers killed in such a load")
    parser.add_argument("--bare", action="store_true", help="only: a bare ASGI app, the floor of a service in Python")
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="serve this bundle in place of generated ones")
    parser.add_argument("--no-ann", action="store_true", help="leave out the approximate index of large catalogs")
    parser.add_argument(
        "--recall", type=float, default=RECALL, help=f"least recall@20 of that index (default: {RECALL})"
    )
    parser.add_argument("--workers", type=int, default=usable_cores(), help="of the service (default: one a core)")
    parser.add_argument("--serve", default="", metavar="OPTIONS", help="more options of 'mtaw-fast serve'")
    parser.add_argument("--connections", type=int, default=64, help="of the client (default: 64)")
    parser.add_argument("--client-nice", type=int, default=0, help="of the client; below 0 as root only (default: 0)")
    parser.add_argument("--seconds", type=float, help="at the full rate (default: 20; --quick 10; --curve 6 a step)")
    parser.add_argument("--ramp", type=float, default=3.0, help="seconds up to the full rate (default: 3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cache", type=Path, default=_CACHE, metavar="FOLDER", help=f"generated bundles (default: {_CACHE})"
    )
    return parser


def _checked(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options with their lists parsed. Raises UsageError before anything is started."""
    for name in ("items", "rates"):
        text = getattr(options, name)
        if text is not None:
            setattr(options, name, _numbers(f"--{name}", text))
    if min(options.workers, options.connections) < 1 or options.ramp < 0 or (options.seconds or 1) <= 0:
        raise UsageError("--workers and --connections must be at least 1, --seconds over 0, --ramp 0 or more")
    faults = [count for count in (options.reloads, options.kills) if count is not None]
    if faults and (min(faults) < 1 or options.bundle or options.curve):
        raise UsageError("--reloads and --kills must be at least 1, and go without --bundle and --curve")
    if faults and max(len(options.items or ()), len(options.rates or ())) > 1:
        raise UsageError("--reloads and --kills take one catalog and one rate")
    return options


def _run(options: argparse.Namespace) -> int:
    report = Report("serving", options.quick)
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as name:
        work = Path(name)
        if options.reloads or options.kills:
            _faults(report, options, work)
        elif options.bare:
            _bare(report, options, work)
        else:
            for served in _bundles(options):
                _loads(report, served, options, work)
    from bench.serving.traffic import table

    if report.rows:
        report.notes[:0] = table(report.rows)
        report.notes.append(
            "ms from the time a request was due to its whole answer, after the ramp; client and service share the "
            f"machine's {usable_cores()} cores ({options.workers} workers); CPU us: of the service, a request"
        )
    return report.finish(options.json)


def _bundles(options: argparse.Namespace) -> Iterator[_Served]:
    from bench.serving.inputs import catalog_bundle, with_ann_index
    from mtaw_fast.bundle import Bundle
    from mtaw_fast.ranking.retrieval import EXACT_ITEMS, ann_file_of

    if options.bundle is not None:
        bundle = Bundle.load(options.bundle)
        index = "ann" if bundle.n_items > EXACT_ITEMS and ann_file_of(bundle) is not None else "native"
        yield _Served(options.bundle, bundle.n_items, index)
        return
    sizes = [QUICK_SIZE] if options.quick else list(RATES)
    if options.items is not None:
        sizes = [int(size) for size in options.items]
    for n_items in sizes:
        plain = catalog_bundle(n_items, options.cache, say)
        yield _Served(plain, n_items, "native")
        if n_items > EXACT_ITEMS and not (options.no_ann or options.quick):
            yield _Served(with_ann_index(plain, options.recall, say), n_items, "ann")


def _loads(report: Report, served: _Served, options: argparse.Namespace, work: Path) -> None:
    """Run every rate on one service, then check its answers."""
    from bench.serving.service_process import Service
    from bench.serving.traffic import measure

    seconds = options.seconds or (10.0 if options.quick else 6.0 if options.curve else 20.0)
    runs: list[tuple[Measured, Sessions]] = []
    with Service(served.folder, work / "service.log", options.workers, shlex.split(options.serve)) as service:
        for number, rate in enumerate(_rates(options, served.n_items)):
            traffic = _traffic(options, rate, seconds, number)
            requests, sessions = _requests(served, traffic)
            say(f"{served.n_items:,} items, {served.index}: {rate:g} requests a second")
            measured = measure(service, requests, traffic, _CHECKED)
            runs.append((measured, sessions))
            if not len(measured.latencies):
                report.refuse(f"{served.n_items} items at {rate:g} a second: no answers ({measured.error_kinds})")
                break
            if options.curve and _overloaded(measured):
                break
    for measured, sessions in runs:
        _keep(report, served, measured, sessions, options)


def _bare(report: Report, options: argparse.Namespace, work: Path) -> None:
    """Run every rate on a bare ASGI app, with the requests of the smallest catalog."""
    from bench.serving.inputs import catalog_bundle
    from bench.serving.service_process import Service
    from bench.serving.traffic import measure

    n_items = int(min(options.items or RATES))
    served = _Served(catalog_bundle(n_items, options.cache, say), n_items, "none")
    command = "-m", "bench.serving.bare"
    with Service(served.folder, work / "bare.log", options.workers, python=command) as service:
        for number, rate in enumerate(_rates(options, n_items)):
            traffic = _traffic(options, rate, options.seconds or 20.0, number)
            requests, sessions = _requests(served, traffic)
            say(f"bare app: {rate:g} requests a second")
            measured = measure(service, requests, traffic, 0.0)
            if not len(measured.latencies):
                report.refuse(f"the bare app at {rate:g} a second: no answers ({measured.error_kinds})")
                return
            report.rows.append(measured.row("bare", _params(served, sessions, options)))
            if options.curve and _overloaded(measured):
                return


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


def _traffic(options: argparse.Namespace, rate: float, seconds: float, number: int) -> Traffic:
    """Return load `number` of a run, with arrivals and sessions of its own."""
    from bench.serving.traffic import Traffic

    return Traffic(rate, options.ramp, seconds, options.seed + number, options.connections, options.client_nice)


def _overloaded(measured: Measured) -> bool:
    """Return whether the rate is above what the service can do."""
    behind = measured.answered < 0.95 * measured.offered
    return behind or measured.percentile(90) > _SLO_MS or measured.errors > 0.01 * len(measured.outcome.due)


def _requests(served: _Served, traffic: Traffic) -> tuple[list[bytes], Sessions]:
    from bench.serving.inputs import distinct_sessions, recommend_requests
    from mtaw_fast.bundle import Bundle

    sessions = distinct_sessions(served.n_items, traffic.max_requests, traffic.seed)
    ids = Bundle.load(served.folder, verify=False).ids
    return recommend_requests(sessions, ids.external, K), sessions


def _keep(report: Report, served: _Served, measured: Measured, sessions: Sessions, options: argparse.Namespace) -> None:
    """Check the kept answers; if they are right, add a row to the report."""
    from bench.serving.checks import check_sample, parse_answer

    if not len(measured.latencies):
        return
    name = f"{served.n_items:,} items, {served.index}, {measured.traffic.rate:g} a second"
    answers = {n: parse_answer(data) for n, data in measured.outcome.kept.items() if measured.outcome.status[n] == 200}
    verdict = check_sample(served.folder, sessions, answers, K, exact=served.index != "ann")
    stated = _stated_recall(served)
    error = verdict.error
    # Three standard errors below the stated recall is not chance.
    if error is None and verdict.recall + 3 * verdict.recall_error < stated:
        error = f"recall@{K} of {verdict.checked} answers is {verdict.recall:.4f}, {stated:g} is stated"
    if error is not None:
        report.refuse(f"{name}: {error}; no latency is reported")
        return
    params = _params(served, sessions, options)
    figures = {"checked": verdict.checked, "recall": verdict.recall}
    report.rows.append(measured.row("poisson", params, **figures))
    report.notes.append(f"{name}: {verdict.checked} answers checked against float64, recall@{K} {verdict.recall:.4f}")
    if measured.errors:
        report.notes.append(f"{name}: {measured.errors} errors: {measured.error_kinds}")
    aim = AIMS.get((served.n_items, measured.traffic.rate))
    if aim is not None:
        met = "met" if measured.percentile(90) <= aim and measured.errors == 0 else "NOT met"
        report.notes.append(
            f"{name}: p90 {measured.percentile(90):.2f} ms, {measured.errors} errors; {aim:g} ms and none: {met}"
        )


def _stated_recall(served: _Served) -> float:
    """Return the recall that the bundle states for its index; 1 for an exact index."""
    from mtaw_fast.bundle import Bundle
    from mtaw_fast.ranking.retrieval import ann_file_of
    from mtaw_fast.ranking.retrieval.ann_plan import read_entry

    ann = ann_file_of(Bundle.load(served.folder, verify=False))
    if served.index != "ann" or ann is None:
        return 1.0
    return read_entry(str(ann.path), ann.entry)[1].sessions


def _params(served: _Served, sessions: Sessions, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "catalog": served.n_items,
        "k": K,
        "index": served.index,
        "clicks": round(float(sessions.lengths.mean()), 2),
        "workers": options.workers,
    }


def _faults(report: Report, options: argparse.Namespace, work: Path) -> None:
    """Run hot reloads and kill workers at the full rate."""
    from bench.serving.faults import kill_under_load, reload_under_load
    from bench.serving.inputs import catalog_bundle, publish
    from bench.serving.service_process import Service

    n_items = int(options.items[0]) if options.items else FAULT_SIZE
    rate = options.rates[0] if options.rates else RATES.get(n_items, 500.0)
    folders = [catalog_bundle(n_items, options.cache, say, seed) for seed in (0, 1)]
    served = _Served(work / "served", n_items, "native")
    publish(folders[1], served.folder)
    with Service(served.folder, work / "service.log", options.workers, shlex.split(options.serve)) as service:
        if options.reloads:
            seconds = options.seconds or 3.0 * options.reloads
            traffic = _traffic(options, rate, seconds, 0)
            requests, sessions = _requests(served, traffic)
            say(f"{options.reloads} hot reloads at {rate:g} requests a second")
            reloads = reload_under_load(service, requests, sessions, traffic, folders, options.reloads, K)
            report.notes.append(str(reloads))
            if reloads.error is not None:
                report.refuse(f"hot reloads: {reloads.error}")
            elif len(reloads.measured.latencies):
                figures = {"reloads": reloads.published, "seen": reloads.seen, "checked": reloads.checked}
                report.rows.append(reloads.measured.row("reloads", _params(served, sessions, options), **figures))
        if options.kills:
            seconds = options.seconds or 10.0 * options.kills
            traffic = _traffic(options, rate, seconds, 1)
            requests, sessions = _requests(served, traffic)
            say(f"{options.kills} workers killed at {rate:g} requests a second")
            kills = kill_under_load(service, requests, traffic, options.kills)
            report.notes.append(str(kills))
            if kills.error is not None:
                report.refuse(f"killed workers: {kills.error}")
            elif len(kills.measured.latencies):
                figures = {"killed": len(kills.recovered), "in_flight": int(kills.in_flight.sum()), "stray": 0}
                report.rows.append(kills.measured.row("killed-worker", _params(served, sessions, options), **figures))


def _numbers(option: str, text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text!r}: give numbers with commas between them") from None
    if min(numbers) <= 0:
        raise UsageError(f"{option} {text}: numbers must be over 0")
    return numbers
