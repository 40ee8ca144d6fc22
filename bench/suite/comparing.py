"""Compare two runs by the ratios against each row's own peer, never by times.

A row's ratio says how many times faster ours was than a peer timed in turns in the same process. A slow machine slows
both, so the quotient of two runs' ratios shows the effect of the code. It counts as changed if its interval, made from
those of both ratios, excludes 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.harness.machine import machine_class
from bench.suite.results import Row, Run, keyed, other_way
from mtaw_fast.errors import UsageError

THRESHOLD = 0.15


@dataclass(frozen=True, slots=True)
class Change:
    """A row of both runs. value: the new ratio over the old one; under 1, ours got slower compared with its peer.

    low, high: its 95% interval; None if a row has none, and then it is not judged.
    """

    old: Row
    new: Row
    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, old: Row, new: Row) -> Change:
        """Return the change of two rows with a peer."""
        value = new["ratio"] / old["ratio"]
        if old.get("ratio_low") is None or new.get("ratio_low") is None:
            return cls(old, new, value)

        def reach(row: Row, end: str) -> float:
            return math.log(row[end] / row["ratio"])

        # The half-widths of both intervals add in squares, on logarithms.
        worse = math.hypot(reach(new, "ratio_low"), reach(old, "ratio_high"))
        better = math.hypot(reach(new, "ratio_high"), reach(old, "ratio_low"))
        return cls(old, new, value, value * math.exp(-worse), value * math.exp(better))

    def verdict(self, threshold: float) -> str:
        """Return 'slower' or 'faster' than the threshold beyond chance, 'little', 'same', or 'unjudged'."""
        if self.low is None or self.high is None:
            return "unjudged"
        if self.low <= 1 <= self.high:
            return "same"
        if self.value < 1 - threshold:
            return "slower"
        return "faster" if self.value > 1 / (1 - threshold) else "little"

    def __str__(self) -> str:
        interval = "" if self.low is None else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{_name(self.new)}: ratio {_ratio(self.old)} -> {_ratio(self.new)}, {self.value:.2f} times{interval}"


def compare_runs(old: Run, new: Run, threshold: float, any_machine: bool = False) -> tuple[bool, list[str]]:
    """Return whether a ratio fell by more than `threshold`, and lines: what changed, what is not judged, a summary.

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
    changes = [Change.of(*pair) for pair in pairs if pair[0]["ratio"] is not None]
    if not changes:
        raise UsageError(f"{old.path} and {new.path} have no common row with a peer: there is nothing to judge")
    packages = _packages(old, new)
    groups = {
        verdict: [change for change in changes if change.verdict(threshold) == verdict]
        for verdict in ("slower", "faster", "little", "unjudged", "same")
    }
    ways = [f"{_name(pair[0])}: {way}" for pair in pairs for way in other_way(*pair)]
    lines = []
    for heading, entries in (
        (f"SLOWER by more than {threshold:.0%} compared with the peer", groups["slower"]),
        (f"faster by more than {threshold:.0%}", groups["faster"]),
        ("changed, within the threshold", groups["little"]),
        ("not judged: no interval", groups["unjudged"]),
        ("not judged, without a peer in their process",
         [f"{_name(one)}: {one['p50']:.4g} -> {other['p50']:.4g}" for one, other in pairs if one["ratio"] is None]),
        ("only in OLD", [_name(row) for key, row in before.items() if key not in after]),
        ("only in NEW", [_name(row) for key, row in after.items() if key not in before]),
        ("compared, although our code took another way", ways),
    ):  # fmt: skip
        texts = [f"  {entry}" for entry in entries]
        lines += [f"{heading}:", *texts] if texts else []
    lines += [f"other versions, which may change the peers: {', '.join(packages)}"] if packages else []
    lines.append(
        f"{len(changes) - len(groups['unjudged'])} ratios judged: {len(groups['slower'])} slower, "
        f"{len(groups['faster'])} faster, {len(groups['little'])} changed within {threshold:.0%}, "
        f"{len(groups['same'])} the same within their intervals"
    )
    return bool(groups["slower"]), lines


def _packages(old: Run, new: Run) -> list[str]:
    """Return the versions that differ, without our own package, which is what is compared."""
    before, after = old.machine.get("packages", {}), new.machine.get("packages", {})
    return [
        f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}"
        for name in sorted({*before, *after} - {"mtaw-fast"})
        if before.get(name) != after.get(name)
    ]


def _ratio(row: Row) -> str:
    ends = "" if row.get("ratio_low") is None else f" [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
    return f"{row['ratio']:.2f}{ends}"


def _name(row: Row) -> str:
    params = " ".join(f"{name}={value}" for name, value in row["params"].items())
    peer = "" if row["baseline"] is None else f" against {row['baseline']}"
    return f"{row['bench']} {row['case']} ({params}) {row['metric']}{peer}"
