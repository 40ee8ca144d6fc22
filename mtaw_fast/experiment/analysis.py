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
from mtaw_fast.experiment.sequential import (
    FEWEST_EVENTS,
    difference_interval,
    power_at,
    ratio_of_sums,
    share_evidence,
    share_interval,
    unit_sums,
    units_needed,
)
from mtaw_fast.system.figures import figure

METRICS = ("click-through", "buyers", "value")
UNITS = {"click-through": "clicked rankings of 100", "buyers": "buying sessions of 100", "value": "value a session"}
_EVENTS = {"click-through": "clicked rankings", "buyers": "buying sessions", "value": "purchases of similar value"}
SCALES = {"click-through": 100.0, "buyers": 100.0, "value": 1.0}
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
                raise UsageError(
                    f"shares: the weight of {name} must be 0 or above, and finite, not {weight:g}; only their ratio "
                    "counts, as in A=1,B=3"
                )
        if self.shares and self.control not in (None, *self.shares):
            raise UsageError(f"shares: the control {self.control} has no weight; give one to each arm to compare")


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """The result of an experiment: `arms`, `differences`, `shares`, `plan`, `days`, and in words `verdict`, `split`,
    `power` and `notes`.

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
    split: str
    power: str

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
    sums = {
        metric: np.array([unit_sums(*_columns(table, metric, mask)).sum(axis=1) for mask in masks])
        for metric in METRICS
    }
    differences = [
        difference
        for metric, arm_sums in sums.items()
        for difference in _differences(metric, arm_sums[:, :, None], names, alpha, question.planned)[0]
    ]
    shares = _share_check(table, question, order, masks, names)
    arms = [
        _arm(table, mask, name, index, sums, question)
        for index, (mask, name) in enumerate(zip(masks, names, strict=True))
    ]
    plan = _plan(table, question, sums[question.metric], alpha)
    return ExperimentResult(
        verdict=_verdict(question, differences, shares, arms),
        arms=arms,
        differences=differences,
        shares=shares,
        plan=plan,
        days=_daily_differences(table, question.metric, order, alpha, question.planned),
        notes=_notes(table, names),
        question={name: getattr(question, name) for name in question.__dataclass_fields__},
        split=_split_text(shares),
        power=_power_text(plan, question),
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


def _arm(
    table: SessionTable, mask: np.ndarray, name: str, index: int, sums: dict[str, np.ndarray], question: Question
) -> dict[str, Any]:
    """Return the facts on one arm. sums: by metric, float64[arms, 6].

    Values have no interval: with a long tail, no session so far need show how large the largest is. Their difference
    has one, because both arms have such a tail.
    """
    facts: dict[str, Any] = {
        "name": name, "sessions": int(np.count_nonzero(mask)), "rankings": int(table.rankings[mask].sum()),
        "counted": int(table.opportunities[mask].sum()), "clicked": int(table.clicked[mask].sum()),
        "carted": int(table.carted[mask].sum()), "bought": int(table.bought[mask].sum()),
        "value": float(table.value[mask].sum()), "metrics": {},
    }  # fmt: skip
    for metric, arm_sums in sums.items():
        _, over, under = arm_sums[index, :3].tolist()
        interval = None
        if metric != "value" and under > 0:
            ends = share_interval(arm_sums[index], arm_sums.sum(axis=0), question.planned, question.alpha)
            interval = [SCALES[metric] * float(end) for end in ends]
        estimate = SCALES[metric] * over / under if under > 0 else None
        facts["metrics"][metric] = {"estimate": estimate, "interval": interval}
    return facts


def _differences(
    metric: str, sums: np.ndarray, names: list[str], alpha: float, planned: int
) -> list[list[dict[str, Any]]]:
    """Return the differences of a metric to the first arm at each of L looks, with their intervals.

    sums: float64[arms, 6, L] of `unit_sums`. planned: sessions of all arms.
    """
    sessions = sums[:, 0, -1]
    scale, first = SCALES[metric], sums[0]
    looks: list[list[dict[str, Any]]] = [[] for _ in range(sums.shape[2])]
    for name, count, other in zip(names[1:], sessions[1:], sums[1:], strict=True):
        of_pair = planned * max(sessions[0] + count, 1.0) / max(sessions.sum(), 1.0)
        low, high = difference_interval(first, other, of_pair, alpha)
        with np.errstate(divide="ignore", invalid="ignore"):
            base, difference = first[1] / first[2], other[1] / other[2] - first[1] / first[2]
        for look, ends in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            interval, here = None if math.isnan(ends[0]) else ends, float(difference[look])
            looks[look].append({
                "metric": metric, "of": name, "against": names[0],
                "difference": None if math.isnan(here) else scale * here,
                "interval": None if interval is None else [scale * end for end in interval],
                "relative": here / float(base[look]) if base[look] > 0 and not math.isnan(here) else None,
                "decided": interval is not None and not interval[0] <= 0 <= interval[1],
            })  # fmt: skip
    return looks


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


def _plan(table: SessionTable, question: Question, sums: np.ndarray, alpha: float) -> dict[str, Any]:
    """Return how many sessions and days the wanted effect takes, and the power at the planned number of sessions.

    Days are None for a log of less than a day: nights and mornings differ.
    """
    counts = [int(arm_sums[0]) for arm_sums in sums]
    past_days = (int(table.began[-1]) - int(table.began[0])) / _DAY_MS
    daily = sum(counts) / past_days if past_days >= 1 else None
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
        "baseline": SCALES[question.metric] * base, "sessions": sessions, "days": sessions / daily if daily else None,
        "power_as_planned": power_at(by_then, effect, deviation, by_then, alpha),
    }  # fmt: skip


def _split_text(shares: dict[str, Any]) -> str:
    split = ", ".join(
        f"{name} {share:.1%} of {shares['expected'][name]:.1%}" for name, share in shares["observed"].items()
    )
    return f"Split: {split}; {'as expected' if shares['ok'] else 'NOT as expected'} (p {shares['p']:.2g})."


def _power_text(plan: dict[str, Any], question: Question) -> str:
    if plan["sessions"] is None:
        return "Power: not known yet."
    days = "the log has less than a day to estimate how many days that takes"
    if plan["days"] is not None:
        days = f"{plan['days']:,.1f} days at {plan['sessions_a_day']:,.0f} a day"
    return (
        f"Power: an effect of {plan['effect']:.1%} needs {plan['sessions']:,} sessions for a power of "
        f"{plan['power']:.0%} ({days}); the planned {question.planned:,} give at least {plan['power_as_planned']:.0%}."
    )


def _daily_differences(
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
    looks = _differences(metric, totals, [table.arms[arm] for arm in order], alpha, planned)
    return [
        {"day": str(np.datetime64(day, "D")), "sessions": int(totals[:, 0, index].sum()), "differences": differences}
        for index, (day, differences) in enumerate(zip(days.tolist(), looks, strict=True))
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
            f"{best['of']} has {figure(abs(best['difference']))} {direction} {words} than {best['against']} "
            f"({100 * (1 - question.alpha):g}% interval {figure(low)} to {figure(high)}, valid at every look)."
        )
    widest = max(
        (difference["interval"] for difference in of_metric if difference["interval"]),
        key=lambda ends: ends[1] - ends[0],
        default=None,
    )
    if widest is None:
        return (
            f"It is too early: an interval needs {FEWEST_EVENTS} {_EVENTS[question.metric]} in both arms together, and "
            "sessions in each."
        )
    return (
        f"No arm is better so far: the difference in {words} lies between {figure(widest[0])} and {figure(widest[1])} "
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
