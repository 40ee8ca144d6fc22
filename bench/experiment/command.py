"""Experiments that are read every day: false alarms, and the power to find a known effect.

python -m bench.experiment [--quick] [--cases aa,ab] [--runs N] [--json FILE]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from bench.experiment.simulation import simulate
from bench.harness.report import Report, bench_parser, exit_code_of, parse
from mtaw_fast.errors import MtawError, UsageError

_DAYS, _SESSIONS = 28, 600  # sessions a day in the case aa
_EFFECT, _POWER, _MOST_ALARMS = 0.05, 0.8, 0.05


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if a promise is not kept)."""
    try:
        parser = bench_parser("experiment", (__doc__ or "").splitlines()[0], "some seconds: 100 runs")
        parser.add_argument("--cases", default=",".join(_CASES), metavar="NAME[,NAME]", help="(default: all)")
        parser.add_argument("--runs", type=int, help="simulated experiments of a case (default: 1,000; --quick 100)")
        options = parse(parser, argv)
        report = Report("experiment")
        options.runs = options.runs or (100 if options.quick else 1_000)
        for name in filter(None, options.cases.split(",")):
            if name not in _CASES:
                raise UsageError(f"--cases {name}: there is no such case; the cases are {', '.join(_CASES)}")
            _CASES[name](report, options)
        return report.finish(options.json)
    except MtawError as error:
        return exit_code_of(error)


def _aa(report: Report, options: argparse.Namespace) -> None:
    found = simulate(options.runs, _DAYS, _SESSIONS, 0.0, seed=1)
    report.records.append({"case": "aa", **found})
    report.notes.append(f"aa: {_text(found)}; target: at most {_MOST_ALARMS:.0%} alarms")
    for metric in ("click-through", "value"):
        if found[metric]["alarms"] > _MOST_ALARMS + 2 * (_MOST_ALARMS / options.runs) ** 0.5:
            report.refuse(f"aa: {found[metric]['alarms']:.1%} false alarms by {metric}")


def _ab(report: Report, options: argparse.Namespace) -> None:
    found = simulate(max(1, options.runs // 2), _DAYS, None, _EFFECT, seed=2, power=_POWER)
    report.records.append({"case": "ab", **found})
    report.notes.append(
        f"ab: {_text(found)}; promised power {found['promised']:.1%}, first alarm on day "
        f"{found['median day of the first alarm']:g} (median)"
    )
    if found["click-through"]["alarms"] < found["promised"] - 2 * (0.16 / options.runs * 2) ** 0.5:
        report.refuse(f"ab: a power of {found['click-through']['alarms']:.1%}, promised {found['promised']:.1%}")


def _text(found: dict[str, Any]) -> str:
    click, value = found["click-through"], found["value"]
    return (
        f"{found['runs']} experiments of {found['sessions']:,} sessions in {found['days']} days, effect "
        f"{found['effect']:.0%}: {click['alarms']:.1%} alarms by click-through, {value['alarms']:.1%} by value; a "
        f"fixed test read daily: {click['fixed test']:.1%} and {value['fixed test']:.1%}"
    )


_CASES: dict[str, Callable[[Report, argparse.Namespace], None]] = {"aa": _aa, "ab": _ab}
