"""Experiments that are read every day, and the drift of live clicks: false alarms, power, and what a change shows.

python -m bench.experiment [--quick] [--cases NAME,..] [--runs N] [--log FILE --trained-until TIME] [--bundle FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.experiment.drift import alarm, hourly_drift
from bench.experiment.simulation import simulate
from bench.harness.report import Report, bench_parser, exit_code_of, parse
from bench.harness.workload import generated_with_times
from mtaw_fast.data.moments import moment_of
from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.data.synthetic import draw_sessions
from mtaw_fast.errors import MtawError, UsageError, require
from mtaw_fast.experiment.drift import THRESHOLD

_DAYS, _SESSIONS = 28, 600  # sessions a day in the case aa
_DAY_MS = 86_400_000
_MAX_US = 50.0  # of a request
_EFFECT, _POWER, _MAX_ALARMS = 0.05, 0.8, 0.05


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if a promise is not kept)."""
    try:
        parser = bench_parser("experiment", (__doc__ or "").splitlines()[0], "some seconds: 100 runs")
        parser.add_argument("--cases", default=",".join(_CASES), metavar="NAME[,NAME]", help="(default: all)")
        parser.add_argument("--runs", type=int, help="simulated experiments of a case (default: 1,000; --quick 100)")
        parser.add_argument("--bundle", type=Path, help="of the case cost (default: a generated one)")
        parser.add_argument("--log", type=Path, help="of the case drift: a click log in Parquet (default: synthetic)")
        parser.add_argument("--columns", default="session,item,time_ms", metavar="SESSION,ITEM,TIME_MS")
        parser.add_argument("--trained-until", metavar="TIME", help="of --log: the training ends here")
        parser.add_argument("--from", dest="begin", metavar="TIME", help="of --log: first hour (default: then)")
        options = parse(parser, argv)
        report = Report("experiment", options.quick)
        options.runs = options.runs or (100 if options.quick else 1_000)
        for name in filter(None, options.cases.split(",")):
            if name not in _CASES:
                raise UsageError(f"--cases {name}: there is no such case; the cases are {', '.join(_CASES)}")
            _CASES[name](report, options)
        return report.finish(options.json)
    except MtawError as error:
        return exit_code_of(error)


def _aa(report: Report, options: argparse.Namespace) -> None:
    result = simulate(options.runs, _DAYS, _SESSIONS, 0.0, seed=1)
    report.records.append({"case": "aa", **result})
    report.notes.append(f"aa: {_text(result)}; target: at most {_MAX_ALARMS:.0%} alarms")
    for metric in ("click-through", "value"):
        if result[metric]["alarms"] > _MAX_ALARMS + 2 * (_MAX_ALARMS / options.runs) ** 0.5:
            report.refuse(f"aa: {result[metric]['alarms']:.1%} false alarms by {metric}")


def _ab(report: Report, options: argparse.Namespace) -> None:
    result = simulate(max(1, options.runs // 2), _DAYS, None, _EFFECT, seed=2, power=_POWER)
    report.records.append({"case": "ab", **result})
    report.notes.append(
        f"ab: {_text(result)}; promised power {result['promised']:.1%}, first alarm on day "
        f"{result['median day of the first alarm']:g} (median)"
    )
    if result["click-through"]["alarms"] < result["promised"] - 2 * (0.16 / options.runs * 2) ** 0.5:
        report.refuse(f"ab: a power of {result['click-through']['alarms']:.1%}, promised {result['promised']:.1%}")


def _drift(report: Report, options: argparse.Namespace) -> None:
    if options.log is None:
        drawn = draw_sessions(3_000, 20_000 if options.quick else 200_000, 1)
        step = 30 * _DAY_MS // len(drawn)
        times = np.repeat(np.arange(len(drawn)) * step, drawn.lengths).astype(np.int64)
        sessions, n_items = Sessions(drawn.items, drawn.offsets, times), 3_000
        trained_until, begin, name = int(times[len(times) * 2 // 3]), None, "a stationary log"
    else:
        sessions, n_items = _read(options.log, options.columns.split(","))
        end_of_training = moment_of("--trained-until", options.trained_until)
        if end_of_training is None:
            raise UsageError("--log needs --trained-until, such as 2017-10-14")
        trained_until = end_of_training
        begin, name = moment_of("--from", options.begin), options.log.name
    reference, windows = hourly_drift(sessions, n_items, trained_until, begin)
    for window in windows:
        end = str(np.datetime64(window.end, "ms").astype("datetime64[m]"))
        report.records.append({"case": "drift", "end": end, "clicks": window.clicks, **window.drift})
        parts = ", ".join(f"{feature} {value:.3f}" for feature, value in window.drift.items())
        if options.log is not None:
            report.notes.append(f"drift: until {end}, {window.clicks:,} clicks: {parts}")
    level = {feature: max(THRESHOLD, usual) for feature, usual in reference.usual.items()}
    rung = {feature: alarm(windows, feature, level[feature]) for feature in windows[0].drift}
    highest = {feature: max(period.drift[feature] for period in windows) for feature in windows[0].drift}
    summary = ", ".join(
        f"{feature} at most {value:.3f} of {level[feature]:.3f}"
        + (f", alarm at {np.datetime64(first.end, 'ms').astype('datetime64[m]')}" if (first := rung[feature]) else "")
        for feature, value in highest.items()
    )
    report.notes.append(f"drift in {name}, {len(windows)} windows: {summary}")
    if options.log is None and any(rung.values()):
        report.refuse("drift: an alarm on a log that does not change")


def _cost(report: Report, options: argparse.Namespace) -> None:
    from bench.experiment.cost import costs

    with tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as name:
        folder = Path(name)
        bundle = options.bundle or generated_with_times(5_000, folder / "bundle").bundle.folder
        measured = costs(bundle, folder / "kept", 1_000 if options.quick else 5_000)
    report.records.append({"case": "cost", **measured})
    parts = ", ".join(f"{name} {value:.1f}" for name, value in measured.items())
    report.notes.append(f"cost: us of processor time a request: {parts}; target {_MAX_US:g}")


def _read(path: Path, columns: Sequence[str]) -> tuple[Sessions, int]:
    """Return the sessions of a log in order of their last click, and the number of its items."""
    polars = require("polars", "train")
    session, item, time = columns
    frame = polars.read_parquet(path, columns=list(columns)).sort(session, time, maintain_order=True)
    codes = frame[session].rle_id().to_numpy()
    items = np.unique(frame[item].to_numpy(), return_inverse=True)[1].astype(np.int32)
    sessions = Sessions(items, offsets_of(np.bincount(codes)), frame[time].to_numpy().astype(np.int64))
    assert sessions.times is not None
    ends = sessions.times[sessions.offsets[1:] - 1]
    return sessions.select(np.argsort(ends, kind="stable")), int(items.max()) + 1


def _text(found: dict[str, Any]) -> str:
    click, value = found["click-through"], found["value"]
    return (
        f"{found['runs']} experiments of {found['sessions']:,} sessions in {found['days']} days, effect "
        f"{found['effect']:.0%}: {click['alarms']:.1%} alarms by click-through, {value['alarms']:.1%} by value; a "
        f"fixed test read daily: {click['fixed test']:.1%} and {value['fixed test']:.1%}"
    )


_CASES: dict[str, Callable[[Report, argparse.Namespace], None]] = {"aa": _aa, "ab": _ab, "drift": _drift, "cost": _cost}
