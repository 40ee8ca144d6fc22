"""Experiments that are read every day, and the drift of live clicks: false alarms, power, and what a change shows.

python -m bench.experiment [--quick] [--cases NAME,..] [--runs N]

A simulated session has 1 to 8 rankings and a taste of its own (beta-distributed), so that its clicks hang together, and
buys now and then for a value with a long tail.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.harness.report import Report, bench_parser, chosen, command, parse
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import draw_sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.experiment import SessionTable
from mtaw_fast.experiment.analysis import daily_differences
from mtaw_fast.experiment.drift import FEWEST_CLICKS, GAPS_MS, GROUPS, LENGTHS, THRESHOLD, DriftReference, drift_of
from mtaw_fast.experiment.sequential import multiplier, power_at, ratio_moments, units_needed

_DAYS, _SESSIONS = 28, 600  # sessions a day in the case aa
_DAY_MS = 86_400_000
_EFFECT, _POWER, _MAX_ALARMS = 0.05, 0.8, 0.05
_TASTE = (2.0, 8.0)  # of a beta distribution: a fifth of the rankings is clicked
_ALPHA = 0.05
_FIXED = 1.959964  # standard errors of a fixed test at 5%
_HOUR_MS = 3_600_000


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if a promise is not kept)."""
    parser = bench_parser("experiment", __doc__, "some seconds: 100 runs")
    parser.add_argument("--cases", metavar="NAME[,NAME]", help="(default: all)")
    parser.add_argument("--runs", type=int, help="simulated experiments of a case (default: 1,000; --quick 100)")
    options = parse(parser, argv)
    report = Report("experiment", options.quick)
    options.runs = options.runs or (100 if options.quick else 1_000)
    for name in chosen("--cases", options.cases, _CASES):
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


def sessions_of(rng: np.random.Generator, n: int, days: int, effect: float) -> SessionTable:
    """Return n sessions over `days` days in two arms of equal share; B has `effect` more clicks, relatively."""
    arm = rng.integers(0, 2, n)
    rankings = np.minimum(rng.geometric(0.35, n), 8).astype(np.float64)
    taste = rng.beta(*_TASTE, n) * np.where(arm == 1, 1 + effect, 1.0)
    clicked = rng.binomial(rankings.astype(np.int64), np.minimum(taste, 1)).astype(np.float64)
    bought = (rng.random(n) < 0.04 * (1 + effect * arm)).astype(np.float64)
    return SessionTable(
        arms=["A", "B"], shares=[0.5, 0.5], arm=arm, began=np.sort(rng.integers(0, days * _DAY_MS, n)),
        rankings=rankings, shown=rankings, clicked=clicked, carted=bought, bought=bought,
        value=bought * np.exp(rng.normal(3, 0.8, n)),
    )  # fmt: skip


def simulate(
    runs: int, days: int, sessions: int | None, effect: float, seed: int, power: float = 0.8
) -> dict[str, Any]:
    """Return how many experiments alarmed on any day, by metric.

    sessions: a day, of both arms; None for as many as the effect needs with this power by the last day.
    """
    rng = np.random.default_rng(seed)
    pilot = sessions_of(rng, 200_000, 1, 0.0)
    base, spread = ratio_moments(pilot.clicked, pilot.rankings)
    deviation = 2 * spread**0.5  # of the difference of two halves
    total = units_needed(effect * base, deviation, _ALPHA, power) if sessions is None else sessions * days
    metrics = {
        metric: {"alarms": 0, "wrong sign": 0, "covered at all looks": 0, "fixed test": 0}
        for metric in ("click-through", "value")
    }
    first_days = []
    for _ in range(runs):
        table = sessions_of(rng, total, days, effect)
        for metric, counts in metrics.items():
            looks = [day["differences"][0] for day in daily_differences(table, metric, [0, 1], _ALPHA, total)]
            decided = [number for number, look in enumerate(looks) if look["decided"]]
            truth = 100.0 * effect * base if metric == "click-through" else 0.0
            ends = [look["interval"] for look in looks if look["interval"] is not None]
            counts["alarms"] += bool(decided)
            counts["wrong sign"] += any(looks[number]["difference"] * effect < 0 for number in decided)
            counts["covered at all looks"] += all(low <= truth <= high for low, high in ends)
            counts["fixed test"] += any(map(_fixed_alarm, looks, _numbers(table, days), [total] * days))
            if metric == "click-through" and decided:
                first_days.append(decided[0] + 1)
    shares = {metric: {name: count / runs for name, count in totals.items()} for metric, totals in metrics.items()}
    if effect:
        del shares["value"]["covered at all looks"]  # the effect on it is not known
    return {
        **shares, "runs": runs, "days": days, "sessions": total, "effect": effect,
        "promised": power_at(total, effect * base, deviation, total, _ALPHA),
        "median day of the first alarm": float(np.median(first_days)) if first_days else None,
    }  # fmt: skip


def _numbers(table: SessionTable, days: int) -> list[int]:
    """Return how many sessions had begun by the end of each day."""
    return np.cumsum(np.bincount(table.began // _DAY_MS, minlength=days)).tolist()


def _fixed_alarm(look: dict[str, Any], sessions: int, planned: int) -> bool:
    """Return whether a fixed test would alarm at this look; the interval is a multiple of the same standard error."""
    if look["interval"] is None:
        return False
    low, high = look["interval"]
    error = (high - low) / 2 / float(multiplier(sessions, planned, _ALPHA))
    return abs(look["difference"]) > _FIXED * error


@dataclass(frozen=True, slots=True)
class Window:
    """The drift of one window. end: Unix ms. clicks: number of clicks that follow another one in their session."""

    end: int
    clicks: int
    drift: dict[str, float]


def hourly_drift(
    sessions: Sessions, n_items: int, trained_until: int, begin: int | None = None
) -> tuple[DriftReference, list[Window]]:
    """Return the training's clicks, and the drift of each hour, or of several until there are enough clicks.

    sessions: with times, oldest first. trained_until: Unix milliseconds; sessions that end before it are the training.
    begin: where the first window begins; by default at the end of the training. Raises UsageError if the training or
    the windows have too few clicks.
    """
    assert sessions.times is not None
    last = sessions.times[sessions.offsets[1:] - 1]
    trained = sessions.select(np.flatnonzero(last < trained_until))
    reference = DriftReference.of(trained, n_items)
    if reference is None:
        raise UsageError("the log has no session of two clicks before the end of the training; end it later")
    starts = np.repeat(sessions.offsets[:-1], sessions.lengths)
    positions = np.arange(sessions.n_clicks) - starts
    following = positions > 0
    gaps = np.diff(sessions.times, prepend=sessions.times[:1])
    groups = {
        "popularity": reference.groups_of_items(sessions.items),
        "length": np.searchsorted(LENGTHS, positions),
        "repeat": _repeated(sessions),
        "gap": np.searchsorted(GAPS_MS, gaps),
    }
    windows = []
    start = trained_until if begin is None else begin
    end = start + _HOUR_MS
    while end <= int(sessions.times.max()):
        live = following & (sessions.times >= start) & (sessions.times < end)
        count = int(np.count_nonzero(live))
        if count >= FEWEST_CLICKS:
            drift = {
                feature: drift_of(np.bincount(groups[feature][live], minlength=GROUPS[feature]), shares)
                for feature, shares in reference.shares.items()
            }
            windows.append(Window(end, count, drift))
            start = end
        end += _HOUR_MS
    if not windows:
        raise UsageError(f"the log has no window of {FEWEST_CLICKS:,} clicks after the training; end it earlier")
    return reference, windows


def _repeated(sessions: Sessions) -> np.ndarray:
    repeated = np.zeros(sessions.n_clicks, np.int64)
    click = 0
    for items in sessions:
        seen: set[int] = set()
        for item in items.tolist():
            repeated[click] = item in seen
            seen.add(item)
            click += 1
    return repeated


if __name__ == "__main__":
    raise SystemExit(main())
