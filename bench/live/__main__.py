"""Online learning: what an event costs a worker, in processor time and in memory.

python -m bench.live [--quick] [--cases NAME,..] [--events N] [--json FILE]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.harness.comparison import limit_threads
from bench.harness.report import Report, Row, bench_parser, chosen, command, parse, say
from bench.live.inputs import ALL, make_shop, portions, stream
from bench.live.memory_use import compaction, log_events, redaction, worker
from mtaw_fast.errors import MtawError
from mtaw_fast.online.log.event_log import START, LogEntry
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.state.online_state import OnlineState

EVENT_US = 25.0  # the targets
EVENT_BYTES, COMPACTION_MIB = 200, 300  # likewise, for 10^6 events
_ITEMS, _EVENTS = 100_000, 100_000
_QUICK_ITEMS, _QUICK_EVENTS = 20_000, 20_000
STAGES = ("append", "read", "apply")
_CHUNK = 2000  # events between two readings of the clock
_BATCH, _FOLLOW = 20, 100  # events of an append, and that a reader finds at a time: 50 ms at 2,000/s
_EVENT_PAST, _MEMORY_PAST = 300_000, 1_000_000  # past clicks, of which the figures depend little


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an event was not learned as it must be)."""
    parser = bench_parser("live", __doc__, "under a minute: 20,000 items and events")
    parser.add_argument("--cases", metavar="NAME[,NAME]", help="(default: all)")
    parser.add_argument("--events", type=float, help="that are learned (default: 1e5; --quick 2e4)")
    options = parse(parser, argv)
    events = int(options.events or (_QUICK_EVENTS if options.quick else _EVENTS))
    n_items = _QUICK_ITEMS if options.quick else _ITEMS
    report = Report("live", options.quick)
    with limit_threads(1), tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as name:
        for case in chosen("--cases", options.cases, _CASES):
            say(case)
            folder = Path(name) / case
            folder.mkdir()
            try:
                _CASES[case](report, n_items, events, folder)
            except MtawError as error:
                report.refuse(f"{error}; no figure is reported")
    return report.finish(options.json)


def _event(report: Report, n_items: int, n_events: int, folder: Path) -> None:
    costs = event_costs(n_items, n_events, folder)
    params = {"threads": 1, "catalog": n_items, "events": n_events, "batch": _BATCH, "follow": _FOLLOW}
    for stage in ("total", *STAGES):
        report.rows.append(Row.of("live", "event", {**params, "stage": stage}, "cpu_us", costs[stage]))
    mean = {stage: float(times.mean()) for stage, times in costs.items()}
    parts = ", ".join(f"{stage} {mean[stage]:.1f}" for stage in STAGES)
    report.notes.append(
        f"event: {mean['total']:.1f} us of processor time ({parts}: appended {_BATCH} and followed "
        f"{_FOLLOW} at a time; everything but the append on every worker); target {EVENT_US:g}: "
        f"{_met(mean['total'] <= EVENT_US)}"
    )


def _memory(report: Report, n_items: int, n_events: int, folder: Path) -> None:
    shop = make_shop(n_items, min(_MEMORY_PAST, 10 * n_items), n_events)
    bundle = shop.saved(folder / "bundle")
    params = {"threads": 1, "catalog": n_items, "events": n_events}
    for name, step in (("a day", 100), ("minutes", 1)):  # in minutes, every session is open at the end
        say(f"memory, {n_events:,} events in {name}")
        log_events(shop, n_events, folder / name, step)
        usage = worker(bundle, folder / name)
        per_event, delta = usage.total / usage.events, usage.delta / usage.events
        facts = {"delta": delta, "step_ms": step}
        report.rows.append(Row.of("live", "worker-memory", params, "bytes_per_event", per_event, facts))
        report.notes.append(
            f"memory: a worker that learned {usage.events:,} events in {name} holds {per_event:.0f} bytes each, "
            f"{delta:.0f} of them in the native delta; target {EVENT_BYTES}: {_met(per_event <= EVENT_BYTES)}"
        )
    used_bytes, seconds = redaction(folder / "a day", "visitor-7", folder / "redacted")
    report.rows.append(Row.of("live", "redact", params, "redact_s", seconds, {"bytes": used_bytes}))
    peak = compaction(bundle, folder / "a day")
    report.rows.append(Row.of("live", "compaction-memory", params, "bytes", float(peak)))
    report.notes.append(
        f"memory: redacting a session takes {seconds:.2f} s and {used_bytes / 2**20:.1f} MiB more; compacting takes "
        f"{peak / 2**20:.0f} MiB more, with the mapped bundles; target {COMPACTION_MIB}: "
        f"{_met(peak <= COMPACTION_MIB << 20)}"
    )


def event_costs(n_items: int, n_events: int, folder: Path) -> dict[str, np.ndarray]:
    """Return microseconds of processor time per event, float64[chunks], by stage and in all (`total`).

    Raises MtawError if an event was not learned.
    """
    shop = make_shop(n_items, _EVENT_PAST, n_events)
    events = stream(shop.later, n_events).clicks(ids=True)
    log, state, position = FileLog(folder / "log"), OnlineState(shop.model, ALL), START
    taken: dict[str, list[float]] = {stage: [] for stage in STAGES}

    @contextmanager
    def stage(name: str, count: int) -> Iterator[None]:
        begin = time.process_time_ns()
        yield
        taken[name].append((time.process_time_ns() - begin) / 1e3 / count)

    for chunk in portions(events, _CHUNK):
        with stage("append", len(chunk)):
            for batched in portions(chunk, _BATCH):
                log.append(batched)
        read: list[list[LogEntry]] = []
        with stage("read", len(chunk)):
            while entries := log.read(position, _FOLLOW):
                read.append(entries)
                position = entries[-1].position
        with stage("apply", len(chunk)):
            for entries in read:
                state.apply(entries)
    log.close()
    if state.delta.n_clicks != n_events:
        refused = dict(state.event_processor.tracker.refused)
        raise MtawError(f"event: {n_events} events gave {state.delta.n_clicks} learned clicks ({refused})")
    costs = {name: np.array(times) for name, times in taken.items()}
    return {"total": sum(costs.values(), np.zeros(1)), **costs}


def _met(fine: bool) -> str:
    return "met" if fine else "NOT met"


_CASES: dict[str, Callable[[Report, int, int, Path], None]] = {"event": _event, "memory": _memory}


if __name__ == "__main__":
    raise SystemExit(main())
