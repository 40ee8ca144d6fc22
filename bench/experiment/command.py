"""Experiments that are read every day, and the drift of live clicks: false alarms, power, and what a change shows.

python -m bench.experiment [--quick] [--cases NAME,..] [--runs N]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.experiment.drift import hourly_drift
from bench.experiment.simulation import simulate
from bench.harness.report import Report, bench_parser, command, parse
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import draw_sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.experiment.drift import THRESHOLD

_DAYS, _SESSIONS = 28, 600  # sessions a day in the case aa
_DAY_MS = 86_400_000
_EFFECT, _POWER, _MAX_ALARMS = 0.05, 0.8, 0.05


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if a promise is not kept)."""
    parser = bench_parser("experiment", (__doc__ or "").splitlines()[0], "some seconds: 100 runs")
    parser.add_argument("--cases", default=",".join(_CASES), metavar="NAME[,NAME]", help="(default: all)")
    parser.add_argument("--runs", type=int, help="simulated experiments of a case (default: 1,000; --quick 100)")
    options = parse(parser, argv)
    report = Report("experiment", options.quick)
    options.runs = options.runs or (100 if options.quick else 1_000)
    for name in filter(None, options.cases.split(",")):
        if name not in _CASES:
            raise UsageError(f"--cases {name}: there is no such case; the cases are {', '.join(_CASES)}")
        _CASES[name](report, options)
    return report.finish(options.json)


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
    drawn = draw_sessions(3_000, 20_000 if options.quick else 200_000, 1)
    step = 30 * _DAY_MS // len(drawn)
    times = np.repeat(np.arange(len(drawn)) * step, drawn.lengths).astype(np.int64)
    sessions = Sessions(drawn.items, drawn.offsets, times)
    reference, windows = hourly_drift(sessions, 3_000, int(times[len(times) * 2 // 3]))
    for window in windows:
        end = str(np.datetime64(window.end, "ms").astype("datetime64[m]"))
        report.records.append({"case": "drift", "end": end, "clicks": window.clicks, **window.drift})
    level = {feature: max(THRESHOLD, usual) for feature, usual in reference.usual.items()}
    highest = {feature: max(window.drift[feature] for window in windows) for feature in level}
    summary = ", ".join(f"{feature} at most {highest[feature]:.3f} of {level[feature]:.3f}" for feature in level)
    report.notes.append(f"drift in a log that does not change, {len(windows)} windows: {summary}")
    if any(highest[feature] >= level[feature] for feature in level):
        report.refuse("drift: an alarm on a log that does not change")


def _text(found: dict[str, Any]) -> str:
    click, value = found["click-through"], found["value"]
    return (
        f"{found['runs']} experiments of {found['sessions']:,} sessions in {found['days']} days, effect "
        f"{found['effect']:.0%}: {click['alarms']:.1%} alarms by click-through, {value['alarms']:.1%} by value; a "
        f"fixed test read daily: {click['fixed test']:.1%} and {value['fixed test']:.1%}"
    )


_CASES: dict[str, Callable[[Report, argparse.Namespace], None]] = {"aa": _aa, "ab": _ab, "drift": _drift}
