"""Whether a run is slower than an earlier one: ratios against each row's own peer, and never times.

A row's ratio says how many times faster ours was than a peer that had its turns in the same process. What makes the
machine slow makes both slow, so the quotient of two runs' ratios shows what the code did. It counts as changed where
its interval, made of those of both ratios, leaves 1 out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.harness.machine import machine_class
from bench.suite.results import Run, keyed, other_way
from mtaw_fast.errors import UsageError

THRESHOLD = 0.15


@dataclass(frozen=True, slots=True)
class Change:
    """A row of both runs. value: the new ratio over the old one, under 1: ours got slower beside its peer.

    low, high: its 95% interval; None where a row has none, and then nothing can be judged.
    """

    old: Mapping[str, Any]
    new: Mapping[str, Any]
    value: float
    low: float | None
    high: float | None

    @property
    def judged(self) -> bool:
        """Whether it has an interval."""
        return self.low is not None

    @property
    def real(self) -> bool:
        """Whether the interval leaves 1 out."""
        return self.low is not None and self.high is not None and (self.high < 1 or self.low > 1)

    def slower(self, threshold: float) -> bool:
        """Whether ours got slower by more than the threshold, and not by chance."""
        return self.real and self.value < 1 - threshold

    def faster(self, threshold: float) -> bool:
        """The same to the better: by as many times."""
        return self.real and self.value > 1 / (1 - threshold)


@dataclass(frozen=True, slots=True)
class Compared:
    """Two runs beside each other.

    changes: rows of both that have a peer. alone: pairs of rows of both without one. gone, new: rows of one run only.
    packages: what was of another version, as 'name old -> new'.
    """

    changes: Sequence[Change]
    alone: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
    gone: Sequence[Mapping[str, Any]]
    new: Sequence[Mapping[str, Any]]
    packages: Sequence[str]


def compare_runs(old: Run, new: Run, any_machine: bool = False) -> Compared:
    """Match the rows of two runs.

    Raises UsageError where the machines are of two classes (`any_machine`: not then), or no row of both has a peer.
    """
    classes = machine_class(old.machine), machine_class(new.machine)
    if classes[0] != classes[1] and not any_machine:
        raise UsageError(
            f"{old.path} is of {classes[0]} and {new.path} of {classes[1]}, where ratios differ anyway; "
            "compare runs of one class of machines, or give --any-machine"
        )
    before, after = dict(keyed(old.rows)), dict(keyed(new.rows))
    both = [(before[key], after[key]) for key in before if key in after]
    changes = [_change(one, other) for one, other in both if one["ratio"] is not None]
    if not changes:
        raise UsageError(f"{old.path} and {new.path} have no row with a peer in common: there is nothing to judge")
    return Compared(
        changes,
        [(one, other) for one, other in both if one["ratio"] is None],
        [row for key, row in before.items() if key not in after],
        [row for key, row in after.items() if key not in before],
        _packages(old.machine, new.machine),
    )


def _change(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change:
    value = new["ratio"] / old["ratio"]
    if old.get("ratio_low") is None or new.get("ratio_low") is None:
        return Change(old, new, value, None, None)
    # The distances of both ratios to the ends of their intervals add in squares, on the scale of logarithms.
    worse = math.hypot(_distance(new, "ratio_low"), _distance(old, "ratio_high"))
    better = math.hypot(_distance(new, "ratio_high"), _distance(old, "ratio_low"))
    return Change(old, new, value, value * math.exp(-worse), value * math.exp(better))


def _distance(row: Mapping[str, Any], end: str) -> float:
    return math.log(row[end] / row["ratio"])


def _packages(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Versions that differ; ours is what is compared and is left out."""
    before, after = old.get("packages", {}), new.get("packages", {})
    return [
        f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}"
        for name in sorted({*before, *after} - {"mtaw-fast"})
        if before.get(name) != after.get(name)
    ]


def as_json(found: Compared, threshold: float) -> dict[str, Any]:
    """What scripts read."""
    return {
        "threshold": threshold,
        "changes": [
            {
                **{name: one.new[name] for name in ("bench", "case", "params", "metric", "baseline")},
                "old": one.old["ratio"],
                "new": one.new["ratio"],
                "change": one.value,
                "low": one.low,
                "high": one.high,
                "judged": one.judged,
                "slower": one.slower(threshold),
                "faster": one.faster(threshold),
            }
            for one in found.changes
        ],
        "without_peer": len(found.alone),
        "gone": len(found.gone),
        "new": len(found.new),
        "packages": list(found.packages),
    }


def told(found: Compared, threshold: float) -> list[str]:
    """The comparison in lines: what changed, what is not judged, and the sum of it."""
    judged = [one for one in found.changes if one.judged]
    slower = [one for one in judged if one.slower(threshold)]
    faster = [one for one in judged if one.faster(threshold)]
    little = [one for one in judged if one.real and one not in slower and one not in faster]
    lines = []
    for heading, group in (
        (f"SLOWER by more than {threshold:.0%} beside the peer", slower),
        (f"faster by more than {threshold:.0%}", faster),
        ("changed, within the threshold", little),
        ("not judged: no interval", [one for one in found.changes if not one.judged]),
    ):
        lines += [f"{heading}:", *(f"  {_line(one)}" for one in sorted(group, key=_value))] if group else []
    if found.alone:
        lines += ["not judged: no peer in their process:"]
        lines += [f"  {name_of(old)}: {old['p50']:.4g} -> {new['p50']:.4g}" for old, new in found.alone]
    for heading, rows in (("only in OLD", found.gone), ("only in NEW", found.new)):
        lines += [f"{heading}:", *(f"  {name_of(row)}" for row in rows)] if rows else []
    ways = [f"  {name_of(old)}: {way}" for old, new in _both(found) for way in other_way(old, new)]
    lines += ["compared, though another way was found or chosen:", *ways] if ways else []
    if found.packages:
        lines.append(f"other versions, by which peers may have moved: {', '.join(found.packages)}")
    lines.append(
        f"{len(judged)} ratios judged: {len(slower)} slower, {len(faster)} faster, {len(little)} changed within "
        f"{threshold:.0%}, {len(judged) - len(slower) - len(faster) - len(little)} the same within their intervals"
    )
    return lines


def _both(found: Compared) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return [*((one.old, one.new) for one in found.changes), *found.alone]


def _value(change: Change) -> float:
    return change.value


def _line(one: Change) -> str:
    interval = "" if one.low is None else f" [{one.low:.2f}, {one.high:.2f}]"
    return f"{name_of(one.new)}: ratio {_ratio(one.old)} -> {_ratio(one.new)}, {one.value:.2f} times{interval}"


def _ratio(row: Mapping[str, Any]) -> str:
    if row.get("ratio_low") is None:
        return f"{row['ratio']:.2f}"
    return f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"


def name_of(row: Mapping[str, Any]) -> str:
    """A row in words."""
    params = " ".join(f"{name}={value}" for name, value in row["params"].items())
    against = "" if row["baseline"] is None else f" against {row['baseline']}"
    return f"{row['bench']} {row['case']} ({params}) {row['metric']}{against}"
