"""Online learning: what an event costs a worker, in processor time and in memory.

python -m bench.live [--quick] [--cases NAME,..] [--events N] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import limit_threads
from bench.harness.report import Report, Row, bench_parser, command, parse, say
from bench.live.event import STAGES, event_costs
from bench.live.inputs import make_shop
from bench.live.memory_use import compaction, log_events, redaction, worker
from mtaw_fast.errors import MtawError, UsageError

EVENT_US = 25.0  # the targets
EVENT_BYTES, COMPACTION_MIB = 200, 300  # likewise, for 10^6 events
_ITEMS, _EVENTS = 100_000, 100_000
_QUICK_ITEMS, _QUICK_EVENTS = 20_000, 20_000
_EVENT_PAST, _MEMORY_PAST = 300_000, 1_000_000  # past clicks, of which the figures depend little


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an event was not learned as it must be)."""
    options = _checked(parse(_parser(), argv))
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


def _parser() -> argparse.ArgumentParser:
    parser = bench_parser("live", (__doc__ or "").splitlines()[0], "under a minute: 20,000 items and events")
    parser.add_argument("--cases", default=",".join(_CASES), metavar="NAME[,NAME]", help="(default: all)")
    parser.add_argument("--items", type=int, help="of the catalog (default: 100,000; --quick 20,000)")
    parser.add_argument("--events", type=float, help="that are learned (default: 1e5; --quick 2e4)")
    parser.add_argument("--batch", type=int, default=20, help="events per append (default: 20)")
    parser.add_argument(
        "--follow", type=int, default=100, help="events that a reader finds at a time: 50 ms at 2,000/s (default: 100)"
    )
    return parser


def _checked(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options with defaults filled in. Raises UsageError on a bad value."""
    options.cases = [name for name in options.cases.split(",") if name]
    for name in options.cases:
        if name not in _CASES:
            raise UsageError(f"--cases {name}: there is no such case; the cases are {', '.join(_CASES)}")
    for name, full, quick in (("items", _ITEMS, _QUICK_ITEMS), ("events", _EVENTS, _QUICK_EVENTS)):
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    if min(options.items, options.events, options.batch, options.follow) <= 0:
        raise UsageError("--items, --events, --batch and --follow must be over 0")
    options.events = int(options.events)
    return options


def _event(report: Report, options: argparse.Namespace, folder: Path) -> None:
    costs = event_costs(options.items, _EVENT_PAST, options.events, options.batch, options.follow, folder)
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


def _memory(report: Report, options: argparse.Namespace, folder: Path) -> None:
    shop = make_shop(options.items, min(_MEMORY_PAST, 10 * options.items), options.events)
    bundle = shop.saved(folder / "bundle")
    params = {"catalog": options.items, "events": options.events}
    for name, step in (("a day", 100), ("minutes", 1)):  # in minutes, every session is open at the end
        say(f"memory, {options.events:,} events in {name}")
        log_events(shop, options.events, folder / name, step)
        usage = worker(bundle, folder / name)
        per_event, delta = usage.total / usage.events, usage.delta / usage.events
        facts = {"delta": delta, "step_ms": step}
        report.rows.append(_row("worker-memory", params, "bytes_per_event", np.array([per_event]), facts))
        report.notes.append(
            f"memory: a worker that learned {usage.events:,} events in {name} holds {per_event:.0f} bytes each, "
            f"{delta:.0f} of them in the native delta; target {EVENT_BYTES}: {_met(per_event <= EVENT_BYTES)}"
        )
    used_bytes, seconds = redaction(folder / "a day", "visitor-7", folder / "redacted")
    report.rows.append(_row("redact", params, "redact_s", np.array([seconds]), {"bytes": used_bytes}))
    peak = compaction(bundle, folder / "a day")
    report.rows.append(_row("compaction-memory", params, "bytes", np.array([float(peak)])))
    report.notes.append(
        f"memory: redacting a session takes {seconds:.2f} s and {used_bytes / 2**20:.1f} MiB more; compacting takes "
        f"{peak / 2**20:.0f} MiB more, with the mapped bundles; target {COMPACTION_MIB}: "
        f"{_met(peak <= COMPACTION_MIB << 20)}"
    )


def _row(
    case: str, params: Mapping[str, Any], metric: str, values: np.ndarray, more: Mapping[str, Any] | None = None
) -> Row:
    p50, p95, p99 = np.percentile(values, (50, 95, 99), method="inverted_cdf").tolist()
    return Row(
        "live", case, {"threads": 1, **params}, metric, p50, p95, p99, len(values), None, None, None, None, more or {}
    )


def _met(fine: bool) -> str:
    return "met" if fine else "NOT met"


_CASES: dict[str, Callable[[Report, argparse.Namespace, Path], None]] = {"event": _event, "memory": _memory}
