"""Simulated experiments that are read every day: false alarms without a difference, power with a known one.

A session has 1 to 8 rankings and a taste of its own (beta-distributed), so that its clicks hang together, and buys
now and then for a value with a long tail.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mtaw_fast.experiment import SessionTable
from mtaw_fast.experiment.analysis import daily_differences
from mtaw_fast.experiment.sequential import multiplier, power_at, ratio_moments, units_needed

_DAY_MS = 86_400_000
_TASTE = (2.0, 8.0)  # of a beta distribution: a fifth of the rankings is clicked
_ALPHA = 0.05
_FIXED = 1.959964  # standard errors of a fixed test at 5%


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
