"""Experiments that are read at any time, estimates of other bundles, and the drift of live clicks.

python -m bench.experiment [--quick] [--cases NAME,..] [--runs N] [--picture FILE.png]

A simulated session has 1 to 8 rankings and a taste of its own (beta-distributed), so that its clicks hang together.
Values have a long tail (lognormal). The sessions of a visitor share a taste where the metric says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.report import Report, bench_parser, chosen, command, parse
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import draw_sessions
from mtaw_fast.errors import UsageError, require
from mtaw_fast.experiment.drift import FEWEST_CLICKS, GAPS_MS, GROUPS, LENGTHS, THRESHOLD, DriftReference, drift_of
from mtaw_fast.experiment.estimate import Draws, estimate
from mtaw_fast.experiment.sequential import (
    FEWEST_EVENTS,
    event_count,
    log_evidence,
    multiplier,
    ratio_of_sums,
    unit_sums,
    units_needed,
)
from mtaw_fast.ranking.exploring import CHANCES

_DAYS = 28
_DAY_MS = 86_400_000
_ALPHA, _POWER = 0.05, 0.8
_FIXED = 1.959964  # standard errors of a fixed test at 5%
_SESSIONS = 20_000  # of an experiment of the grid
_SHARES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.01)  # of the second arm
_RATES = (0.001, 0.01, 0.05, 0.3)
_TAILS = {"value": 0.8, "value, long tail": 2.0}  # standard deviation of the log of a value
_VISITORS = "click-through, visitors"
_SESSIONS_OF_A_VISITOR = 5  # on average, anywhere in the experiment
_METRICS = ("click-through", _VISITORS, "buyers", *_TAILS)
_LOOKS = {"every session": 1, "every 25": 25, "daily": _SESSIONS // _DAYS, "weekly": _SESSIONS // 4}
_CHUNK = 400_000  # sessions drawn at a time
_HOUR_MS = 3_600_000
_ITEMS, _CANDIDATES = 40, len(CHANCES) - 1  # of a simulated log of draws
_DRAWN_LOGS = ((300, 0.3), (1_000, 0.05), (3_000, 0.02), (3_000, 0.2), (10_000, 0.02))  # sessions, rate
_MISSED = 0.075  # of the 95% intervals of an estimate, at most


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if a promise is not kept)."""
    parser = bench_parser("experiment", __doc__, "some seconds: 100 runs of one rate")
    parser.add_argument("--cases", metavar="NAME[,NAME]", help="(default: all)")
    parser.add_argument("--runs", type=int, help="simulated experiments of a case (default: 400; --quick 100)")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the case grid")
    options = parse(parser, argv)
    report = Report("experiment", options.quick)
    options.runs = options.runs or (100 if options.quick else 400)
    for name in chosen("--cases", options.cases, _CASES):
        _CASES[name](report, options)
    if options.picture is not None:
        figure_of(report.records).savefig(options.picture, dpi=130)
    return report.finish(options.json)


def figure_of(records: Sequence[Mapping[str, Any]]) -> Any:
    """Draw the highest shares of the grid as a matplotlib figure, a panel for each metric, over the splits."""
    require("matplotlib", "report")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3), layout="constrained")
    panels = figure.subplots(1, len(_METRICS), sharey=True)
    for metric, axes in zip(_METRICS, panels, strict=True):
        cells = [record for record in records if record["case"] == "grid" and record["metric"] == metric]
        for name, looks, effect in (
            ("false alarms", _LOOKS, 0.0), ("missed truths", _LOOKS, 0.2),
            ("false alarms with the variance of each arm", ["variance of each arm"], 0.0),
        ):  # fmt: skip
            highest = [
                100
                * max(one[look] for one in cells for look in looks if (one["share"], one["effect"]) == (share, effect))
                for share in _SHARES
            ]
            axes.plot(range(len(_SHARES)), highest, marker="o", markersize=4, label=name)
        axes.axhline(100 * _ALPHA, color="gray", linewidth=0.8)
        splits = [f"{1 - share:.0%} / {share:.0%}".replace("%", "") for share in _SHARES]
        axes.set_xticks(range(len(_SHARES)), splits, rotation=60)
        axes.set_title(metric, fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("% of the experiments")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _grid(report: Report, options: argparse.Namespace) -> None:
    """False alarms without a difference, and truths missed with one of a fifth, at any of the looks."""
    rng = np.random.default_rng(1)
    for metric in _METRICS:
        for share in _SHARES:
            for rate in _RATES[1:2] if options.quick else _RATES:
                for effect in (0.0, 0.2):
                    found = wrong_at_looks(rng, options.runs, _SESSIONS, metric, share, rate, effect)
                    cell = {"metric": metric, "share": share, "rate": rate, "effect": effect}
                    report.records.append({"case": "grid", **cell, **found})
                    if max(found[looks] for looks in _LOOKS) > _allowed(options.runs):
                        report.refuse(f"grid: {cell}: {found}")
            cells = [one for one in report.records if (one["metric"], one["share"]) == (metric, share)]
            alarms, missed = (
                max(one[looks] for looks in _LOOKS for one in cells if bool(one["effect"]) == effect)
                for effect in (False, True)
            )
            each = max(one["variance of each arm"] for one in cells if not one["effect"])
            report.notes.append(
                f"{metric}, {1 - share:.0%} / {share:.0%}: at most {alarms:.1%} false alarms and {missed:.1%} missed "
                f"truths; with the variance of each arm, {each:.1%} false alarms"
            )


def _arms(report: Report, options: argparse.Namespace) -> None:
    """The same with three arms: how often one of the two differences is wrong."""
    rng = np.random.default_rng(3)
    for metric in ("click-through", "buyers"):
        for share in (1 / 3, 0.1, 0.01):
            for effect in (0.0, 0.2):
                found = wrong_at_looks(rng, options.runs, _SESSIONS, metric, share, 0.01, effect, others=2)
                cell = {"metric": metric, "share": share, "rate": 0.01, "effect": effect}
                report.records.append({"case": "arms", **cell, **found})
                wrong = max(found[looks] for looks in _LOOKS)
                report.notes.append(f"three arms, two with {share:.0%}: {metric}, effect {effect:g}: {wrong:.1%} wrong")
                if wrong > _allowed(options.runs):
                    report.refuse(f"arms: {cell}: {found}")


def _allowed(runs: int) -> float:
    """Return the share of wrong experiments that a cell may have by chance."""
    return _ALPHA + 2.5 * (_ALPHA * (1 - _ALPHA) / runs) ** 0.5


def _power(report: Report, options: argparse.Namespace) -> None:
    """Finding 5% more clicks, of a fifth of the rankings, with as many sessions as are said to be needed."""
    rng = np.random.default_rng(2)
    pilot = _sums(*draw(rng, 1, 400_000, "click-through", 0.5, 0.2, 0.0), 400_000).sum(axis=0)[:, 0, 0]
    base, spread = ratio_of_sums(pilot)
    for share in (0.5, 0.2, 0.1):
        total = units_needed(0.05 * base, (spread / share / (1 - share)) ** 0.5, _ALPHA, _POWER)
        looks, days = total // _DAYS, []
        for _ in range(max(1, options.runs // 4)):
            first, other = _sums(*draw(rng, 1, total, "click-through", share, 0.2, 0.05), looks)
            alarms = np.flatnonzero(log_evidence(first, other, 0.0, total, _ALPHA)[0] >= -np.log(_ALPHA))
            days.append(alarms[0] + 1 if len(alarms) else np.inf)
        found = float(np.isfinite(days).mean())
        record = {"share": share, "sessions": total, "found": found, "median day": float(np.median(days))}
        report.records.append({"case": "power", **record})
        report.notes.append(f"power: {record}")
        if found < _POWER - 2.5 * (_POWER * (1 - _POWER) / len(days)) ** 0.5:
            report.refuse(f"power: {record}")


def _estimates(report: Report, options: argparse.Namespace) -> None:
    """What another bundle would have earned at explored positions, against the truth."""
    rng = np.random.default_rng(4)
    for sessions, rate in _DRAWN_LOGS[:2] if options.quick else _DRAWN_LOGS:
        for name, found in errors_of_estimates(rng, options.runs, sessions, rate).items():
            record = {"sessions": sessions, "rate": rate, "estimate": name, **found}
            report.records.append({"case": "estimates", **record})
            report.notes.append(f"estimates: {record}")
            too_far = abs(found["bias"]) > 4 * found["deviation"] / options.runs**0.5
            if too_far or 1 - found["coverage"] > _MISSED + 2.5 * (_MISSED / options.runs) ** 0.5:
                report.refuse(f"estimates: {record}")


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


_CASES: dict[str, Callable[[Report, argparse.Namespace], None]] = {
    "grid": _grid, "arms": _arms, "power": _power, "estimates": _estimates, "drift": _drift,
}  # fmt: skip


def draw(
    rng: np.random.Generator, runs: int, n: int, metric: str, share: float, rate: float, effect: float, others: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (arm, over, under), [runs, n]: arm, numerator and denominator of n sessions of each experiment.

    share: of each of the other arms, in which events come 1 + effect times as often.
    """
    arm = np.minimum((rng.random((runs, n)) / share).astype(np.int64) + 1, others + 1) % (others + 1)
    factor = np.where(arm > 0, 1 + effect, 1.0)
    under = np.ones((runs, n))
    if metric in ("click-through", _VISITORS):
        under = np.minimum(rng.geometric(0.35, (runs, n)), 8).astype(np.float64)
        visitors = n // _SESSIONS_OF_A_VISITOR if metric == _VISITORS else n
        taste = rng.beta(10 * rate, 10 * (1 - rate), (runs, visitors))
        if metric == _VISITORS:
            taste = np.take_along_axis(taste, rng.integers(visitors, size=(runs, n)), axis=1)
        over = rng.binomial(under.astype(np.int64), np.minimum(taste * factor, 1))
        return arm, over.astype(np.float64), under
    over = (rng.random((runs, n)) < rate * factor).astype(np.float64)
    if metric in _TAILS:
        over *= np.exp(rng.normal(0, _TAILS[metric], (runs, n)))
    return arm, over, under


def _sums(arm: np.ndarray, over: np.ndarray, under: np.ndarray, step: int, others: int = 1) -> np.ndarray:
    """Return float64[1 + others, 6, runs, looks]: the sums of each arm after each `step` sessions."""
    runs, looks = len(over), over.shape[1] // step
    terms, arm = unit_sums(over, under)[..., : looks * step], arm[:, : looks * step]
    arms = [np.where(arm == number, terms, 0.0) for number in range(1 + others)]
    return np.array([part.reshape(6, runs, looks, step).sum(axis=3).cumsum(axis=2) for part in arms])


def wrong_at_looks(
    rng: np.random.Generator, runs: int, n: int, metric: str, share: float, rate: float, effect: float, others: int = 1
) -> dict[str, float]:
    """Return the share of experiments of which an interval leaves out the true difference at a look, by how often one
    looks.

    others: number of arms that are compared with the first. `variance of each arm` and `fixed test` are of daily looks
    at intervals of the last one with the sum of both arms' own variances, as wide as `multiplier` and as a fixed test
    say. Of a difference, the truth is exact, for tastes are not cut at 1.
    """
    truth = rate * effect * (np.exp(_TAILS[metric] ** 2 / 2) if metric in _TAILS else 1.0)
    totals = dict.fromkeys((*_LOOKS, "variance of each arm", "fixed test"), 0)
    chunk = max(1, _CHUNK // n)
    alpha, planned = _ALPHA / others, n * (1 - (others - 1) * share)
    for begin in range(0, runs, chunk):
        first, *compared = _sums(
            *draw(rng, min(chunk, runs - begin), n, metric, share, rate, effect, others), 1, others
        )
        is_wrong = np.zeros(first.shape[1:], dtype=bool)
        for other in compared:
            evidence = log_evidence(first, other, truth, planned, alpha)
            is_wrong |= (evidence >= -np.log(alpha)) & (event_count(first + other) >= FEWEST_EVENTS)
        for name, step in _LOOKS.items():
            totals[name] += int(is_wrong[:, step - 1 :: step].any(axis=1).sum())
        daily = slice(_LOOKS["daily"] - 1, None, _LOOKS["daily"])
        for name, wrong in _wrong_by_own_variance(first[..., daily], compared[-1][..., daily], truth, n).items():
            totals[name] += wrong
    return {name: total / runs for name, total in totals.items()}


def _wrong_by_own_variance(first: np.ndarray, other: np.ndarray, truth: float, n: int) -> dict[str, int]:
    """Return how many experiments miss the truth at a look by intervals with the sum of both arms' own variances."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.abs(other[1] / other[2] - first[1] / first[2] - truth)
        errors = distance / np.sqrt(sum(
            np.maximum(0, arm[3] - 2 * (ratio := arm[1] / arm[2]) * arm[4] + ratio**2 * arm[5]) / arm[2] ** 2
            for arm in (first, other)
        ))  # fmt: skip
    enough = (np.minimum(first[0], other[0]) >= 50) & np.isfinite(errors)
    limits = {"variance of each arm": multiplier(first[0] + other[0], n, _ALPHA), "fixed test": _FIXED}
    return {name: int((enough & (errors > limit)).any(axis=1).sum()) for name, limit in limits.items()}


def drawn_log(rng: np.random.Generator, sessions: int, rate: float) -> tuple[Draws, float, float]:
    """Return a log of explored positions, what the other bundle would earn at one, and what the log's earns.

    Sessions have 1 to 8 positions and a taste that these share, items a quality, and each item fits some positions
    better. Both bundles rank the candidates by the chance of a click, with errors.
    """
    session = np.repeat(np.arange(sessions), np.minimum(rng.geometric(0.35, sessions), 8))
    n = len(session)
    quality = np.random.default_rng(7).gamma(2, 0.5, _ITEMS)
    items = np.argsort(rng.random((n, _ITEMS)), axis=1)[:, :_CANDIDATES]
    clicks = rng.gamma(4, 0.25, sessions)[session, None] * quality[items] * rng.gamma(1, 1, items.shape)
    order = np.argsort(rng.gumbel(size=items.shape) - clicks, axis=1)
    items, clicks = np.take_along_axis(items, order, 1), np.take_along_axis(clicks, order, 1)
    chances, row = np.array(CHANCES[_CANDIDATES]), np.arange(n)
    drawn = np.minimum(np.searchsorted(chances.cumsum(), rng.random(n)), _CANDIDATES - 1)
    chosen = np.argmax(clicks + rng.gumbel(size=items.shape), axis=1)
    truth = np.minimum(rate * clicks, 1)
    earned = (rng.random(n) < truth[row, drawn]).astype(np.float64)
    draws = Draws(session, chances[drawn], items[row, drawn], items[row, chosen], earned)
    return draws, float(truth[row, chosen].mean()), float((truth @ chances).mean())


def errors_of_estimates(rng: np.random.Generator, runs: int, sessions: int, rate: float) -> dict[str, dict[str, float]]:
    """Return bias and standard deviation, relative to the truth, of each estimate, and how often its interval has it.

    The truth is the mean over all runs.
    """
    found: dict[str, list[tuple[float, float, float]]] = {}
    truths = []
    for _ in range(runs):
        draws, chosen, recorded = drawn_log(rng, sessions, rate)
        truths.append((chosen, recorded, chosen - recorded))
        result = estimate(draws)
        for one in (*result.estimates, result.recorded, result.difference):
            found.setdefault(one.name, []).append((one.value, *one.interval))
    chosen, recorded, gain = np.mean(truths, axis=0)
    errors = {}
    for name, rows in found.items():
        truth = {"recorded": recorded, "difference": gain}.get(name, chosen)
        value, low, high = np.array(rows).T
        errors[name] = {
            "bias": float(value.mean() / truth - 1), "deviation": float(value.std() / truth),
            "coverage": float(((low <= truth) & (truth <= high)).mean()),
        }  # fmt: skip
    return errors


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
