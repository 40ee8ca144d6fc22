"""Samples as if they came later, while nothing is learned: what the age of a bundle costs."""

from __future__ import annotations

from dataclasses import replace

from mtaw_fast.data.sessions import Samples

_DAY = 24 * 3_600_000  # ms
LATER = {"a day": 1, "a week or more": 7}  # days; evidence of a week and more counts alike (kTrendStale)


def served_later(samples: Samples) -> dict[str, Samples]:
    """Return samples with times as if they came so much later; none of samples without times."""
    times = samples.prefixes.times
    if times is None:
        return {}
    return {
        name: replace(samples, prefixes=replace(samples.prefixes, times=times + days * _DAY))
        for name, days in LATER.items()
    }
