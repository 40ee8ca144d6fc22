"""Compare two runs by the ratios against each row's own peer, never by times.

A row's ratio says how many times faster ours was than a peer timed in turns in the same process. A slow machine slows
both, so the quotient of two runs' ratios shows the effect of the code. It counts as changed if its interval, made from
those of both ratios, excludes 1.
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
    """A row of both runs. value: the new ratio over the old one; under 1, ours got slower compared with its peer.

    low, high: its 95% interval; None if a row has none, and then it is not judged.
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
        """Whether the interval excludes 1."""
        return self.low is not None and self.high is not None and (self.high < 1 or self.low > 1)

    def slower(self, threshold: float) -> bool:
        """Return whether ours got slower by more than the threshold, beyond chance."""
        return self.real and self.value < 1 - threshold

    def faster(self, threshold: float) -> bool:
        """Return whether ours got faster by the same factor, beyond chance."""
        return self.real and self.value > 1 / (1 - threshold)


@dataclass(frozen=True, slots=True)
class Compared:
    """The comparison of two runs.

    changes: rows of both with a peer. alone: pairs of rows of both without one. gone, new: rows of one run only.
    packages: versions that differ, as 'name old -> new'.
    """

    changes: Sequence[Change]
    alone: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
    gone: Sequence[Mapping[str, Any]]
    new: Sequence[Mapping[str, Any]]
    packages: Sequence[str]


def compare_runs(old: Run, new: Run, any_machine: bool = False) -> Compared:
    """Match the rows of two runs.

    Raises UsageError if the machines are of two classes, without `any_machine`, or if no common row has a peer.
    """
    classes = machine_class(old.machine), machine_class(new.machine)
    if classes[0] != classes[1] and not any_machine:
        raise UsageError(
            f"{old.path} is of {classes[0]} and {new.path} of {classes[1]}, whose ratios differ anyway; "
            "compare runs of one machine class, or give --any-machine"
        )
    before, after = dict(keyed(old.rows)), dict(keyed(new.rows))
    pairs = [(before[key], after[key]) for key in before if key in after]
    changes = [_change(old_row, new_row) for old_row, new_row in pairs if old_row["ratio"] is not None]
    if not changes:
        raise UsageError(f"{old.path} and {new.path} have no common row with a peer: there is nothing to judge")
    return Compared(
        changes,
        [(old_row, new_row) for old_row, new_row in pairs if old_row["ratio"] is None],
        [row for key, row in before.items() if key not in after],
        [row for key, row in after.items() if key not in before],
        _packages(old.machine, new.machine),
    )


def _change(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change:
    value = new["ratio"] / old["ratio"]
    if old.get("ratio_low") is None or new.get("ratio_low") is None:
        return Change(old, new, value, None, None)
    # The half-widths of both intervals add in squares, on logarithms.
    worse = math.hypot(_distance(new, "ratio_low"), _distance(old, "ratio_high"))
    better = math.hypot(_distance(new, "ratio_high"), _distance(old, "ratio_low"))
    return Change(old, new, value, value * math.exp(-worse), value * math.exp(better))


def _distance(row: Mapping[str, Any], end: str) -> float:
    return math.log(row[end] / row["ratio"])


def _packages(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the versions that differ, without our own package, which is what is compared."""
    before, after = old.get("packages", {}), new.get("packages", {})
    return [
        f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}"
        for name in sorted({*before, *after} - {"mtaw-fast"})
        if before.get(name) != after.get(name)
    ]


def as_json(found: Compared, threshold: float) -> dict[str, Any]:
    """Return the comparison for scripts."""
    return {
        "threshold": threshold,
        "changes": [
            {
                **{name: change.new[name] for name in ("bench", "case", "params", "metric", "baseline")},
                "old": change.old["ratio"],
                "new": change.new["ratio"],
                "change": change.value,
                "low": change.low,
                "high": change.high,
                "judged": change.judged,
                "slower": change.slower(threshold),
                "faster": change.faster(threshold),
            }
            for change in found.changes
        ],
        "without_peer": len(found.alone),
        "gone": len(found.gone),
        "new": len(found.new),
        "packages": list(found.packages),
    }


def describe(found: Compared, threshold: float) -> list[str]:
    """Return the comparison in lines: what changed, what is not judged, and a summary."""
    judged = [change for change in found.changes if change.judged]
    slower = [change for change in judged if change.slower(threshold)]
    faster = [change for change in judged if change.faster(threshold)]
    little = [change for change in judged if change.real and change not in slower and change not in faster]
    lines = []
    for heading, group in (
        (f"SLOWER by more than {threshold:.0%} compared with the peer", slower),
        (f"faster by more than {threshold:.0%}", faster),
        ("changed, within the threshold", little),
        ("not judged: no interval", [change for change in found.changes if not change.judged]),
    ):
        lines += [f"{heading}:", *(f"  {_line(change)}" for change in sorted(group, key=_value))] if group else []
    if found.alone:
        lines += ["not judged, without a peer in their process:"]
        lines += [f"  {name_of(old)}: {old['p50']:.4g} -> {new['p50']:.4g}" for old, new in found.alone]
    for heading, rows in (("only in OLD", found.gone), ("only in NEW", found.new)):
        lines += [f"{heading}:", *(f"  {name_of(row)}" for row in rows)] if rows else []
    other_ways = [f"  {name_of(old)}: {way}" for old, new in _both(found) for way in other_way(old, new)]
    lines += ["compared, although our code took another way:", *other_ways] if other_ways else []
    if found.packages:
        lines.append(f"other versions, which may change the peers: {', '.join(found.packages)}")
    lines.append(
        f"{len(judged)} ratios judged: {len(slower)} slower, {len(faster)} faster, {len(little)} changed within "
        f"{threshold:.0%}, {len(judged) - len(slower) - len(faster) - len(little)} the same within their intervals"
    )
    return lines


def _both(found: Compared) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return [*((change.old, change.new) for change in found.changes), *found.alone]


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
    """Describe a row in words."""
    params = " ".join(f"{name}={value}" for name, value in row["params"].items())
    peer = "" if row["baseline"] is None else f" against {row['baseline']}"
    return f"{row['bench']} {row['case']} ({params}) {row['metric']}{peer}"
