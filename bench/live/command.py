"""Online learning: its cost per ranking and per event, how soon events count, and that none is lost.

python -m bench.live [--quick] [--cases NAME,..] [--clicks N] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import Plan, limit_threads
from bench.harness.machine import usable_cores
from bench.harness.report import Report, Row, bench_parser, exit_code_of, parse, say
from mtaw_fast.errors import MtawError, UsageError, require

ADDED_US, EVENT_US, RATE_RATIO, FRESH_S = 10.0, 25.0, 1.3, 1.0  # the targets
EVENT_BYTES, COMPACTION_MIB = 200, 300  # likewise, for 10^6 events
_FULL: dict[str, Any] = {
    "items": 100_000, "clicks": 10_000_000, "events": 100_000, "kills": 50, "trials": 50,
    "pairs": 5, "seconds": 20.0, "ramp": 3.0, "rate_items": 100_000, "deltas": (1_000, 10_000, 100_000),
}  # fmt: skip
_QUICK: dict[str, Any] = {
    "items": 20_000, "clicks": 300_000, "events": 20_000, "kills": 5, "trials": 10,
    "pairs": 1, "seconds": 5.0, "ramp": 1.0, "rate_items": 20_000, "deltas": (1_000, 10_000),
}  # fmt: skip
_EVENT_PAST, _RATE_PAST = 300_000, 1_000_000  # past clicks in cases that depend little on them
_PLAN = Plan(rounds=300, burst=10, settle=3, warmup=50, seconds=30.0)
_QUICK_PLAN = Plan(rounds=100, burst=10, settle=3, warmup=20, seconds=5.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an answer was wrong, an event lost or a request failed)."""
    try:
        options = _checked(parse(_parser(), argv))
        for package in ("uvicorn", "psutil", "rich"):
            require(package, "bench")
        report = Report("live", options.quick)
        with limit_threads(1), tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as name:
            for case in options.cases:
                say(case)
                folder = Path(name) / case
                folder.mkdir()
                try:
                    _CASES[case](report, options, folder)
                except MtawError as error:
                    report.refuse(f"{error}; no figure is reported")
        return report.finish(options.json)
    except MtawError as error:
        return exit_code_of(error)


def _parser() -> argparse.ArgumentParser:
    parser = bench_parser("live", (__doc__ or "").splitlines()[0], "under a minute: 20,000 items, 1 pair, 5 kills")
    parser.add_argument("--cases", default=",".join(_CASES), metavar="NAME[,NAME]", help="(default: all)")
    parser.add_argument("--items", type=int, help="of the catalog (default: 100,000; --quick 20,000)")
    parser.add_argument(
        "--clicks", type=float, help="in the past, for recommend-added and compact (default: 1e7; --quick 3e5)"
    )
    parser.add_argument("--events", type=float, help="learned, or appended (default: 1e5; --quick 2e4)")
    parser.add_argument("--kills", type=int, help="(default: 50; --quick 5)")
    parser.add_argument("--trials", type=int, help="of the case fresh (default: 50; --quick 10)")
    parser.add_argument(
        "--fresh-rates", default="", metavar="RATE[,RATE]", help="events/s of others in the case fresh (default: none)"
    )
    parser.add_argument("--pairs", type=int, help="of loads (default: 5; --quick 1)")
    parser.add_argument("--seconds", type=float, help="of a load at the full rate (default: 20; --quick 5)")
    parser.add_argument("--rate", type=float, default=500.0, help="rankings per second (default: 500)")
    parser.add_argument("--event-rate", type=float, default=2000.0, help="events per second (default: 2,000)")
    parser.add_argument("--batch", type=int, default=20, help="events per request or append (default: 20)")
    parser.add_argument(
        "--follow", type=int, default=100, help="events that a reader finds at a time: 50 ms at 2,000/s (default: 100)"
    )
    parser.add_argument("--workers", type=int, default=usable_cores(), help="of the service (default: one per core)")
    return parser


def _checked(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options with defaults filled in. Raises UsageError on a bad value."""
    options.cases = [name for name in options.cases.split(",") if name]
    for name in options.cases:
        if name not in _CASES:
            raise UsageError(f"--cases {name}: there is no such case; the cases are {', '.join(_CASES)}")
    sizes = _QUICK if options.quick else _FULL
    options.rate_items = options.items or sizes["rate_items"]
    for name in ("items", "clicks", "events", "kills", "trials", "pairs", "seconds"):
        if getattr(options, name) is None:
            setattr(options, name, sizes[name])
        if not getattr(options, name) > 0:
            raise UsageError(f"--{name} {getattr(options, name)}: must be over 0")
    if min(options.rate, options.event_rate, options.batch, options.follow, options.workers) <= 0:
        raise UsageError("--rate, --event-rate, --batch, --follow and --workers must be over 0")
    options.clicks, options.events = int(options.clicks), int(options.events)
    options.ramp, options.deltas = sizes["ramp"], sizes["deltas"]
    return options


def _added(report: Report, options: argparse.Namespace, folder: Path) -> None:
    for timed in (True, False):
        _added_to(report, options, folder / ("times" if timed else "no-times"), timed)


def _added_to(report: Report, options: argparse.Namespace, folder: Path, timed: bool) -> None:
    from bench.live.added import AGREEMENT, K, Learned

    learned = Learned(options.items, options.clicks, options.events, folder, usable_cores(), timed=timed)
    params = {"catalog": options.items, "base_clicks": options.clicks, "events": options.events, "times": timed}
    name = f"recommend-added, {'with' if timed else 'without'} times"
    result = report.run(learned.case(params, _QUICK_PLAN if options.quick else _PLAN))
    learned.live.close()
    agreement = learned.agreement
    percents = np.array([100 * agreement.strict])
    report.rows.append(
        _row("places-as-in-a-rebuild", params, "percent", percents, more={"k": K, "target": 100 * AGREEMENT})
    )
    report.notes.append(
        f"{name}: {agreement.strict:.2%} of the top-{K} ranks as in a rebuild (target {AGREEMENT:.1%}: "
        f"{_met(agreement.strict >= AGREEMENT)}), {agreement.up_to_rounding:.2%} up to bf16 rounding; delta of "
        f"{learned.delta_bytes / 1e6:.1f} MB, {learned.delta_bytes / options.events:.0f} bytes per event"
    )
    if result is not None:
        extra_us = (result.ours.median - result.baselines[0].median) * 1e6
        report.notes.append(f"{name}: {extra_us:+.1f} us p50; target {ADDED_US:+g}: {_met(extra_us <= ADDED_US)}")


def _event(report: Report, options: argparse.Namespace, folder: Path) -> None:
    from bench.live.event import STAGES, event_costs

    costs = event_costs(options.items, _EVENT_PAST, options.events, options.batch, options.follow, folder).of
    params = {"catalog": options.items, "events": options.events, "batch": options.batch, "follow": options.follow}
    for stage in ("total", *STAGES):
        report.rows.append(_row("event", {**params, "stage": stage}, "cpu_us", costs[stage]))
    mean = {stage: float(times.mean()) for stage, times in costs.items()}
    parts = ", ".join(f"{stage} {mean[stage]:.1f}" for stage in STAGES)
    report.notes.append(
        f"event: {mean['total']:.1f} us of processor time ({parts}: appended {options.batch} and followed "
        f"{options.follow} at a time; everything but the append on every worker); target {EVENT_US:g}: "
        f"{_met(mean['total'] <= EVENT_US)}"
    )


def _rate(report: Report, options: argparse.Namespace, folder: Path) -> None:
    from bench.live.inputs import make_shop
    from bench.live.rate import Pace, p90, pairs

    pace = Pace(options.rate, options.event_rate, options.batch, options.ramp, options.seconds)
    n_events = int(2 * pace.events * (pace.ramp + pace.steady)) + 1000
    shop = make_shop(options.rate_items, min(_RATE_PAST, 10 * options.rate_items), n_events)
    results = pairs(shop, shop.saved(folder / "bundle"), folder, pace, options.pairs, options.workers, say)
    if results.errors:
        report.refuse(f"rate: {results.errors} requests failed; no figure is reported")
        return
    with_events, without_events = np.concatenate(results.with_events), np.concatenate(results.without)
    ratio = float(np.median(results.ratios))
    params = {
        "catalog": options.rate_items, "rate": pace.rankings, "event_rate": pace.events, "batch": pace.batch,
        "seconds": pace.steady, "pairs": options.pairs, "workers": options.workers, "k": 20,
    }  # fmt: skip
    facts = {
        "p90": p90(with_events), "p90_without": p90(without_events), "p90_ratio": ratio, "errors": results.errors,
        "events_p90": p90(np.concatenate(results.event_latencies)), "checked": results.checked,
    }  # fmt: skip
    report.rows.append(_row("rate", params, "latency_ms", with_events, "without-learning", 1 / ratio, facts))
    ratios = ", ".join(f"{value:.2f}" for value in results.ratios)
    cost = (sum(results.cpu_with_events) - sum(results.cpu_without)) / results.events * 1e6
    report.notes.append(
        f"rate: p90 {facts['p90_without']:.2f} ms without and {facts['p90']:.2f} with {pace.events:g} events/s, ratio "
        f"{ratio:.2f} (pairs: {ratios}); target {RATE_RATIO:g}: {_met(ratio <= RATE_RATIO)}; 0 errors; events "
        f"acknowledged in {facts['events_p90']:.2f} ms (p90); the service takes {cost:.0f} us more per event"
    )


def _fresh(report: Report, options: argparse.Namespace, folder: Path) -> None:
    from bench.live.fresh import freshness, freshness_at
    from bench.live.inputs import make_shop

    rates = [float(rate) for rate in options.fresh_rates.split(",") if rate]
    shop = make_shop(
        options.rate_items,
        min(_RATE_PAST, 10 * options.rate_items),
        int(max(rates, default=0) * options.seconds) + 1000,
    )
    bundle = shop.saved(folder / "bundle")
    seconds = freshness(shop, bundle, folder, options.trials)
    params = {"catalog": options.rate_items, "workers": 2, "k": 20}
    report.rows.append(_row("fresh", params, "latency_ms", seconds * 1e3, more={"max": float(seconds.max() * 1e3)}))
    report.notes.append(
        f"fresh: another worker ranks with an event after {np.median(seconds) * 1e3:.0f} ms, at most "
        f"{seconds.max() * 1e3:.0f} of {len(seconds)}; target {FRESH_S:g} s: {_met(float(seconds.max()) < FRESH_S)}"
    )
    for rate in rates:
        say(f"fresh, {rate:g} events/s")
        work = folder / f"rate-{rate:g}"
        work.mkdir()
        fresh = freshness_at(shop, bundle, work, rate, options.seconds)
        counts = {"accepted": fresh.accepted, "refused": fresh.refused}
        row = _row(
            "fresh",
            {**params, "event_rate": rate, "seconds": options.seconds},
            "latency_ms",
            fresh.taken * 1e3,
            more=counts,
        )
        report.rows.append(row)
        report.notes.append(
            f"fresh: among {fresh.accepted:.0f} accepted and {fresh.refused:.0f} refused events/s another worker knows "
            f"an event after {row.p50:.0f} ms (p50), {row.p99:.0f} (p99) of {len(fresh.taken)}; target {FRESH_S:g} s: "
            f"{_met(row.p99 < 1e3 * FRESH_S)}"
        )


def _loss(report: Report, options: argparse.Namespace, folder: Path) -> None:
    from bench.live.loss import kill_while_observing

    loss = kill_while_observing(options.kills, folder, say)
    report.notes.append(f"loss: {loss}")
    if loss.lost or loss.doubled:
        report.refuse(f"loss: {loss}")
    params = {"kills": loss.kills, "acknowledged": loss.acknowledged, "threads": 1}
    counts = {"lost": loss.lost, "doubled": loss.doubled, "damaged": loss.damaged}
    report.rows.append(_row("loss", params, "reopen_s", np.array([loss.reopen]), more=counts))


def _compact(report: Report, options: argparse.Namespace, folder: Path) -> None:
    from bench.live.compact import compaction
    from bench.live.inputs import make_shop

    shop = make_shop(options.items, options.clicks, max(options.deltas))
    bundle = shop.saved(folder / "bundle")
    for size in options.deltas:
        say(f"compact, {size:,} events")
        result = compaction(shop, bundle, size, folder / f"learned-{size}")
        params = {"catalog": options.items, "base_clicks": options.clicks, "events": size}
        sizes = {"bytes": result.nbytes, "log_bytes": result.log_bytes}
        report.rows.append(_row("compact", params, "compact_s", np.array([result.seconds]), more=sizes))
        report.notes.append(
            f"compact: {size:,} events into {options.clicks:,} clicks in {result.seconds:.2f} s, "
            f"{result.nbytes / 1e6:.0f} MB written, from {result.log_bytes / 1e6:.1f} MB of log; "
            "tables equal a rebuild's to the bit"
        )


def _memory(report: Report, options: argparse.Namespace, folder: Path) -> None:
    from bench.live.inputs import make_shop
    from bench.live.memory_use import compaction, log_events, redaction, worker

    shop = make_shop(options.rate_items, min(_RATE_PAST, 10 * options.rate_items), options.events)
    bundle = shop.saved(folder / "bundle")
    params = {"catalog": options.rate_items, "events": options.events}
    for name, step in (("a day", 100), ("minutes", 1)):  # in minutes, every session is open at the end
        say(f"memory, {options.events:,} events in {name}")
        log_events(shop, options.events, folder / name, step)
        usage = worker(bundle, folder / name)
        facts = {"delta": usage.delta / usage.events, "step_ms": step}
        report.rows.append(_row("worker-memory", params, "bytes_per_event", np.array([usage.per_event]), more=facts))
        report.notes.append(
            f"memory: a worker that learned {usage.events:,} events in {name} holds {usage.per_event:.0f} bytes each, "
            f"{usage.delta / usage.events:.0f} of them in the native delta; target {EVENT_BYTES}: "
            f"{_met(usage.per_event <= EVENT_BYTES)}"
        )
    used_bytes, seconds = redaction(folder / "a day", "visitor-7", folder / "redacted")
    report.rows.append(_row("redact", params, "redact_s", np.array([seconds]), more={"bytes": used_bytes}))
    peak = compaction(bundle, folder / "a day")
    report.rows.append(_row("compaction-memory", params, "bytes", np.array([float(peak)])))
    report.notes.append(
        f"memory: redacting a session takes {seconds:.2f} s and {used_bytes / 2**20:.1f} MiB more; compacting takes "
        f"{peak / 2**20:.0f} MiB more, with the mapped bundles; target {COMPACTION_MIB}: "
        f"{_met(peak <= COMPACTION_MIB << 20)}"
    )


def _poisoning(report: Report, options: argparse.Namespace, folder: Path) -> None:
    from bench.live.poisoning import PER_DAY, curves, table, trained_shop
    from mtaw_fast.online.settings import LearningLimits

    model = trained_shop(folder, say)
    results = curves(model, LearningLimits(), per_day=PER_DAY[1:2] if options.quick else PER_DAY)
    for (per_day, quiet), attacks in results.items():
        for attack in attacks:
            params = {"clicks_a_day": per_day, "silent_days": quiet, "colluders": attack.colluders}
            facts = {"unknown": attack.unknown, "learned": attack.learned}
            report.rows.append(_row("poisoning", params, "rank", np.array([attack.visitors]), more=facts))
    report.notes.append(f"poisoning: the rank of B after n sessions that click A, B\n\n{table(results)}\n")


def _row(
    case: str,
    params: Mapping[str, Any],
    metric: str,
    values: np.ndarray,
    baseline: str | None = None,
    ratio: float | None = None,
    more: Mapping[str, Any] | None = None,
) -> Row:
    p50, p95, p99 = np.percentile(values, (50, 95, 99), method="inverted_cdf").tolist()
    return Row(
        "live",
        case,
        {"threads": 1, **params},
        metric,
        p50,
        p95,
        p99,
        len(values),
        baseline,
        ratio,
        None,
        None,
        more or {},
    )


def _met(fine: bool) -> str:
    return "met" if fine else "NOT met"


_CASES: dict[str, Callable[[Report, argparse.Namespace, Path], None]] = {
    "recommend-added": _added,
    "event": _event,
    "rate": _rate,
    "fresh": _fresh,
    "loss": _loss,
    "compact": _compact,
    "memory": _memory,
    "poisoning": _poisoning,
}
