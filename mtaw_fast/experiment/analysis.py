"""The comparison of an experiment's arms, and its verdict in one sentence.

The unit is the session, because a hash of it chose the arm: rankings of one session are not independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.errors import UsageError
from mtaw_fast.experiment.feedback_log import SessionTable
from mtaw_fast.experiment.sequential import multiplier, power_at, ratio_of_sums, share_evidence, unit_sums, units_needed

METRICS = ("click-through", "buyers", "value")
UNITS = {"click-through": "clicked rankings of 100", "buyers": "buying sessions of 100", "value": "value a session"}
_SCALES = {"click-through": 100.0, "buyers": 100.0, "value": 1.0}
FEWEST = 50  # sessions of each arm before there are intervals: they are asymptotic
_SHARE_ALPHA = 0.01
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Question:
    """What to read from an experiment; fixed before the first look.

    Attributes
    ----------
    metric : {'click-through', 'buyers', 'value'}, default 'click-through'
        Decides the verdict. The others are reported.
    alpha : float, default 0.05
        The most probability of a false alarm, over all looks and arms together.
    planned : int, default 20_000
        Sessions of the whole experiment: intervals are narrowest there, and valid everywhere.
    power : float, default 0.8
        Wanted probability to find the effect.
    effect : float, default 0.05
        Wanted effect, relative to the first arm.
    shares : mapping of str to float, optional
        The arms' weights, if not those in the log.
    control : str, optional
        The arm that the others are compared with. By default the first of `shares`, or the one with the largest share.
    """

    metric: str = "click-through"
    alpha: float = 0.05
    planned: int = 20_000
    power: float = 0.8
    effect: float = 0.05
    shares: dict[str, float] | None = None
    control: str | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UsageError(f"there is no metric {self.metric!r}; choose {', '.join(METRICS)}")
        if not (0 < self.alpha < 1 and 0 < self.power < 1):
            raise UsageError(f"alpha {self.alpha:g} and power {self.power:g} must lie between 0 and 1")
        if not self.planned >= 1:
            raise UsageError(f"planned sessions must be at least 1, not {self.planned}")
        if not 0 < self.effect < math.inf:
            raise UsageError(f"effect {self.effect:g} must be above 0 and finite")
        for name, weight in (self.shares or {}).items():
            if not 0 <= weight < math.inf:
                raise UsageError(f"shares: the weight of {name} must be 0 or above, and finite, not {weight:g}")
        if self.shares and self.control not in (None, *self.shares):
            raise UsageError(f"shares: the control {self.control} has no weight; give one to each arm to compare")


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """The result of an experiment: `arms`, `differences`, `shares`, `plan`, `days`, `notes` and `verdict`.

    All are plain JSON values; the command's --json and the service's page show them.
    """

    verdict: str
    arms: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    shares: dict[str, Any]
    plan: dict[str, Any]
    days: list[dict[str, Any]]
    notes: list[str]
    question: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def analyze(table: SessionTable, question: Question | None = None) -> ExperimentResult:
    """Compare the arms of a feedback log.

    Raises UsageError if the log has no session, or the question names an arm that it does not have.
    """
    question = question or Question()
    if not len(table):
        raise UsageError(
            f"the log has no session to compare ({table.without_session:,} rankings came without a session's id); ask "
            "for rankings with session_id, and report what was clicked"
        )
    order = _arm_order(table, question)
    masks = [table.arm == arm for arm in order]
    names = [table.arms[arm] for arm in order]
    alpha = question.alpha / max(1, len(order) - 1)  # Bonferroni: each further arm is compared with the first
    sums = {metric: [unit_sums(*_columns(table, metric, mask)).sum(axis=1) for mask in masks] for metric in METRICS}
    differences = [
        difference_of(metric, arm_sums[0], other, names[0], name, alpha, question.planned)
        for metric, arm_sums in sums.items()
        for other, name in zip(arm_sums[1:], names[1:], strict=True)
    ]
    shares = _share_check(table, question, order, masks, names)
    arms = [
        _arm(table, mask, name, {metric: arm_sums[index] for metric, arm_sums in sums.items()}, question)
        for index, (mask, name) in enumerate(zip(masks, names, strict=True))
    ]
    return ExperimentResult(
        verdict=_verdict(question, differences, shares, arms),
        arms=arms,
        differences=differences,
        shares=shares,
        plan=_plan(table, question, sums[question.metric], alpha),
        days=daily_differences(table, question.metric, order, alpha, question.planned),
        notes=_notes(table, names),
        question={name: getattr(question, name) for name in question.__dataclass_fields__},
    )


def _arm_order(table: SessionTable, question: Question) -> list[int]:
    """Return the arms: the control first, then as the shares were given, or the largest share first."""
    with_shares = list(question.shares or ())
    for name in [*with_shares, *([question.control] if question.control else [])]:
        if name not in table.arms:
            raise UsageError(f"the log has no arm {name!r}; it has {', '.join(table.arms)}")
    control = [question.control] if question.control else []
    by_share = sorted(table.arms, key=lambda name: (-table.shares[table.arms.index(name)], name))
    ordered = dict.fromkeys([*control, *(with_shares or by_share)])
    return [table.arms.index(name) for name in ordered]


def _columns(table: SessionTable, metric: str, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (over, under): a metric is the ratio of their sums."""
    if metric == "click-through":
        return table.clicked[mask], table.opportunities[mask]
    ones = np.ones(int(np.count_nonzero(mask)))
    return ((table.bought[mask] > 0).astype(np.float64) if metric == "buyers" else table.value[mask]), ones


def _interval(center: float, variance: float, n: int, planned: float, alpha: float) -> list[float] | None:
    """Return the interval around an estimate whose variance is `variance`, after n sessions."""
    if n < FEWEST or not variance > 0:
        return None
    radius = math.sqrt(variance) * float(multiplier(n, planned, alpha))
    return [center - radius, center + radius]


def _arm(
    table: SessionTable, mask: np.ndarray, name: str, sums: dict[str, np.ndarray], question: Question
) -> dict[str, Any]:
    n = int(np.count_nonzero(mask))
    facts: dict[str, Any] = {
        "name": name, "sessions": n, "rankings": int(table.rankings[mask].sum()),
        "counted": int(table.opportunities[mask].sum()), "clicked": int(table.clicked[mask].sum()),
        "carted": int(table.carted[mask].sum()), "bought": int(table.bought[mask].sum()),
        "value": float(table.value[mask].sum()), "metrics": {},
    }  # fmt: skip
    for metric in METRICS:
        ratio, variance = ratio_of_sums(sums[metric])
        scale = _SCALES[metric]
        interval = _interval(ratio, variance / max(1, n), n, question.planned / 2, question.alpha)
        facts["metrics"][metric] = {
            "estimate": None if math.isnan(ratio) else scale * ratio,
            "interval": None if interval is None else [scale * max(0.0, interval[0]), scale * interval[1]],
        }
    return facts


def difference_of(
    metric: str, first: np.ndarray, other: np.ndarray, control: str, name: str, alpha: float, planned: int
) -> dict[str, Any]:
    """Return the difference of a metric between two arms, with its interval; first, other: float64[6] `unit_sums`."""
    n = int(first[0]), int(other[0])
    (base, spread), (ratio, other_spread) = ratio_of_sums(first), ratio_of_sums(other)
    difference, variance = ratio - base, spread / max(1, n[0]) + other_spread / max(1, n[1])
    interval = None if min(n) < FEWEST else _interval(difference, variance, sum(n), planned, alpha)
    scale = _SCALES[metric]
    return {
        "metric": metric, "of": name, "against": control,
        "difference": None if math.isnan(difference) else scale * difference,
        "interval": None if interval is None else [scale * end for end in interval],
        "relative": difference / base if base > 0 and not math.isnan(difference) else None,
        "decided": interval is not None and not interval[0] <= 0 <= interval[1],
    }  # fmt: skip


def _share_check(
    table: SessionTable, question: Question, order: list[int], masks: list[np.ndarray], names: list[str]
) -> dict[str, Any]:
    counts = [int(np.count_nonzero(mask)) for mask in masks]
    weights = [question.shares[name] for name in names] if question.shares else [table.shares[arm] for arm in order]
    total = sum(weights)
    if total <= 0:
        raise UsageError("the shares of the arms are all 0; give their weights, such as --shares A=.5,B=.5")
    expected = [weight / total for weight in weights]
    evidence = share_evidence(counts, expected) if len(counts) > 1 else 1.0
    return {
        "expected": dict(zip(names, expected, strict=True)),
        "observed": {name: count / max(sum(counts), 1) for name, count in zip(names, counts, strict=True)},
        "p": min(1.0, 1 / evidence), "ok": evidence < 1 / _SHARE_ALPHA,
    }  # fmt: skip


def _plan(table: SessionTable, question: Question, sums: list[np.ndarray], alpha: float) -> dict[str, Any]:
    """Return how many sessions and days the wanted effect takes, and the power at the planned number of sessions."""
    counts = [int(arm_sums[0]) for arm_sums in sums]
    daily = sum(counts) / max((int(table.began[-1]) - int(table.began[0])) / _DAY_MS, 1 / 24)
    plan: dict[str, Any] = {
        "metric": question.metric, "effect": question.effect, "power": question.power, "baseline": None,
        "sessions_a_day": daily, "sessions": None, "days": None, "power_as_planned": None,
    }  # fmt: skip
    base, spread = ratio_of_sums(sums[0])
    if len(sums) < 2 or not base > 0 or not spread > 0:
        return plan
    # Of the comparison with the smallest other arm.
    pair = [counts[0], max(1, min(counts[1:]))]
    share = sum(pair) / sum(counts)
    deviation = math.sqrt(spread * sum(pair) * (1 / pair[0] + 1 / pair[1]))
    effect = question.effect * base
    sessions = math.ceil(units_needed(effect, deviation, alpha, question.power) / share)
    by_then = question.planned * share
    return plan | {
        "baseline": _SCALES[question.metric] * base, "sessions": sessions, "days": sessions / daily,
        "power_as_planned": power_at(by_then, effect, deviation, question.planned, alpha),
    }  # fmt: skip


def daily_differences(
    table: SessionTable, metric: str, order: list[int], alpha: float, planned: int
) -> list[dict[str, Any]]:
    """Return the differences as of the end of each day (UTC), over the sessions that had begun by then."""
    days, day_of = np.unique(table.began // _DAY_MS, return_inverse=True)
    totals = np.zeros((len(order), 6, len(days)))
    for row, arm in enumerate(order):
        mask = table.arm == arm
        for column, values in enumerate(unit_sums(*_columns(table, metric, mask))):
            totals[row, column] = np.bincount(day_of[mask], values, len(days))
    totals = np.cumsum(totals, axis=2)
    names = [table.arms[arm] for arm in order]
    return [
        {
            "day": str(np.datetime64(day, "D")),
            "sessions": int(totals[:, 0, index].sum()),
            "differences": [
                difference_of(metric, totals[0, :, index], arm_totals[:, index], names[0], name, alpha, planned)
                for arm_totals, name in zip(totals[1:], names[1:], strict=True)
            ],
        }
        for index, day in enumerate(days.tolist())
    ]


def _verdict(
    question: Question, differences: list[dict[str, Any]], shares: dict[str, Any], arms: list[dict[str, Any]]
) -> str:
    if len(arms) == 1:
        return f"There is one arm, {arms[0]['name']}: there is nothing to compare it with."
    if not shares["ok"]:
        return (
            "The sessions are not split as the weights say, so no comparison counts: look for sessions without an id, "
            "lost reports, or bots that reach one arm."
        )
    of_metric = [difference for difference in differences if difference["metric"] == question.metric]
    decided = [difference for difference in of_metric if difference["decided"]]
    words = UNITS[question.metric]
    if decided:
        best = max(decided, key=lambda difference: abs(difference["difference"]))
        less = "less" if question.metric == "value" else "fewer"
        direction = "more" if best["difference"] > 0 else less
        low, high = sorted(map(abs, best["interval"]))
        return (
            f"{best['of']} has {abs(best['difference']):.3g} {direction} {words} than {best['against']} "
            f"({100 * (1 - question.alpha):g}% interval {low:.3g} to {high:.3g}, valid at every look)."
        )
    widest = max(
        (difference["interval"] for difference in of_metric if difference["interval"]),
        key=lambda ends: ends[1] - ends[0],
        default=None,
    )
    if widest is None:
        return f"It is too early: an arm has fewer than {FEWEST} sessions, or there are no clicks yet."
    return (
        f"No arm is better so far: the difference in {words} lies between {widest[0]:.3g} and {widest[1]:.3g} "
        f"({100 * (1 - question.alpha):g}%, valid at every look)."
    )


def _notes(table: SessionTable, names: list[str]) -> list[str]:
    notes = []
    if not table.reports_shown:
        notes.append("No ranking was reported as shown, so every answered one counts as an opportunity to click.")
    if table.changed is not None:
        moment = str(np.datetime64(table.changed, "ms"))  # in whole seconds it could be before the change
        notes.append(
            f"The weights changed at {moment}Z, which mixes days of different traffic: read from then on, with --since "
            f"{moment}."
        )
    for count, text in (
        (table.without_session, "rankings came without a session's id and are left out"),
        (table.moved, "sessions were answered by two arms and are left out"),
        (table.unmatched, "reports name a ranking that the log does not have"),
        (table.late, "reports came after the window and are left out"),
        (table.duplicates, "reports were sent before and count once"),
    ):
        if count:
            notes.append(f"{count:,} {text}.")
    left_out = [name for name in table.arms if name not in names]
    if left_out:
        notes.append(f"Not compared: {', '.join(left_out)}.")
    return notes
