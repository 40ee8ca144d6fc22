"""A history: what happens in one simulated run, as plain data. It is drawn from a seed, shrunk, and printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

SERVERS = ("A", "B", "C")
MIX = {
    "observe": 30, "turn": 26, "start": 3, "compact": 9, "forget": 7, "kill": 3, "stop": 2, "resend": 4, "add": 2,
    "remove": 2, "hide": 2, "show": 2, "jump": 1, "power": 2, "update": 1, "publish": 1, "recommend": 2, "flood": 1,
}  # fmt: skip
TABLE_MIX = {"set_items": 9, "placement": 3}
_CALLS = {"compact": 302, "start": 90, "update": 200, "publish": 200, "turn": 30, "stop": 6}  # about, through the host
FAULTS = ("kill", "power", "error", "full", "steps")


@dataclass(slots=True)
class Fault:
    """What goes wrong at one call through the host.

    kind: "kill" (the process), "power", "error" (this call), "full" (the disk, until the end of the step), or "steps"
    (other processes run before the call). call: the number of the call in its step, from 1. after: whether the call has
    its effect, or a part of it. seed: of what else is left to chance.
    """

    kind: str
    call: int
    after: bool = False
    seed: int = 0
    steps: list[Step] = field(default_factory=list)


@dataclass(slots=True)
class Step:
    """What one process does, in one go unless a fault lets others run meanwhile.

    what: a name of `MIX`. who: the server. values: the arguments.
    """

    what: str
    who: str
    values: dict[str, Any] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """seed: of the run. settings: of the learning, and of what the bundle and the log are like (see `drawn`)."""

    seed: int
    settings: dict[str, Any]
    steps: list[Step]


def drawn(seed: int) -> History:
    """Return the history of a seed."""
    chance = Random(seed)
    settings = {
        "fsync": chance.random() < 0.4,
        "segment_bytes": chance.choice((64 << 20, 4000, 1200)),
        "max_log_bytes": chance.choice((2 << 30, 2 << 30, 3000)),
        "redis": chance.random() < 0.12,
        "guarded": chance.random() < 0.12,
        "read_events": chance.choice((2000, 2000, 7, 3)),
        "gap": chance.choice((60_000, 1_800_000)),
    }
    wider = Random(f"wider {seed}")  # drawn apart, so that the others stay what they were
    changes_table = wider.random() < 0.2
    settings["timed"] = wider.random() < 0.2
    settings["part_bytes"] = wider.choice((16 << 20, 300))
    # Who shares the log: one bundle; two bundles, A and C with one of them, B with the other; or two machines.
    groups = Random(f"groups {seed}").choices((1, 2), (8, 1))[0]
    settings["groups"] = 1 if settings["guarded"] else groups
    # Few histories have many faults: most losses need one or two, and each one hides others.
    rate = chance.choice((0.0, 0.05, 0.15, 0.3))
    mix = dict(MIX)
    if settings["max_log_bytes"] < 1 << 20:
        mix["update"] = mix["publish"] = 0  # with another base only the rest of the log is learned again
    if settings["guarded"]:
        mix["forget"], mix["flood"] = 0, 12
    if changes_table:
        mix |= TABLE_MIX
    if settings["groups"] > 1:
        mix["power"] = mix["update"] = mix["publish"] = 0
    drawer = _Drawer(chance, mix, rate, Random(f"times {seed}"))
    first = SERVERS[: settings["groups"] if settings["redis"] else 1]  # a machine that joins later misses what is gone
    steps = [*(Step("start", who) for who in first), *drawer.steps(chance.randint(10, 34), depth=0)]
    return History(seed, settings, steps)


class _Drawer:
    def __init__(self, chance: Random, mix: Mapping[str, int], rate: float, times: Random) -> None:
        self._chance, self._mix, self._rate, self._times = chance, mix, rate, times
        self._sessions: list[int] = []  # that were clicked in

    def steps(self, count: int, depth: int) -> list[Step]:
        names, weights = list(self._mix), list(self._mix.values())
        return [self._step(name, depth) for name in self._chance.choices(names, weights, k=count)]

    def _step(self, what: str, depth: int) -> Step:
        chance = self._chance
        server = chance.choice(SERVERS[: 1 + chance.choice((0, 1, 1, 2))])
        step = Step(what, server, getattr(self, f"_{what}", dict)())
        while chance.random() < self._rate and len(step.faults) < 2:
            step.faults.append(self._fault(what, depth))
        step.faults.sort(key=lambda fault: fault.call)
        return step

    def _fault(self, what: str, depth: int) -> Fault:
        chance = self._chance
        most = _CALLS.get(what, 12)
        # A compaction opens files first, then it writes many, and redacts the log with its last calls.
        last = (max(most - 35, 1), most)
        begin, end = chance.choice(((1, most), (1, most), (1, 12), last, last))
        call = chance.randint(begin, end)
        kind = chance.choices(FAULTS, (3, 2, 2, 1, 0 if depth else 4))[0]
        if kind == "power" and not self._mix["power"]:
            kind = "kill"
        fault = Fault(kind, call, chance.random() < 0.5, chance.randrange(1 << 30))
        if kind == "steps":
            fault.steps = self.steps(chance.randint(1, 6), depth + 1)
        return fault

    def _observe(self) -> dict[str, Any]:
        chance = self._chance
        items = [f"sku-{chance.randrange(12)}" if chance.random() < 0.75 else f"new-{chance.randrange(8)}"
                 for _ in range(chance.randint(1, 4))]  # fmt: skip
        self._sessions.append(chance.randrange(8))
        return {"session": self._sessions[-1], "items": items, "at": self._times.choice(("now",) * 12 + ("trained",))}

    def _flood(self) -> dict[str, Any]:
        return {"sessions": self._chance.randint(2, 8), "bot": self._chance.random() < 0.4}

    def _forget(self) -> dict[str, Any]:
        return {"session": self._chance.choice(self._sessions[-6:] or range(8))}

    def _resend(self) -> dict[str, Any]:
        return {"back": self._chance.randrange(12), "at": self._times.choice(("then", "then", "now", "trained"))}

    def _add(self) -> dict[str, Any]:
        chance = self._chance
        return {"item": f"new-{chance.randrange(8)}", "near": f"sku-{chance.randrange(12)}"}

    def _item(self) -> dict[str, Any]:
        chance = self._chance
        return {"item": f"sku-{chance.randrange(12)}" if chance.random() < 0.5 else f"new-{chance.randrange(8)}"}

    _remove = _hide = _show = _item

    def _set_items(self) -> dict[str, Any]:
        chance = self._chance
        mode = chance.choice(("replace", "patch", "patch"))
        kind = chance.choice(("number", "number", "number", "category"))
        rows: dict[str, dict[str, Any]] = {}
        for _ in range(chance.randint(1, 4)):
            size: Any = chance.randrange(9)
            row = {"size": float(size) if kind == "number" else f"size {size}", "on": chance.random() < 0.6}
            values: dict[str, Any] = {name: value for name, value in row.items() if chance.random() < 0.7}
            if mode == "patch" and values and chance.random() < 0.15:
                values[chance.choice([*values])] = None
            rows[self._item()["item"]] = values
        return {"mode": mode, "rows": rows, "kind": kind, "availability": chance.random() < 0.5}

    def _placement(self) -> dict[str, Any]:
        chance = self._chance
        content = {"sets": [{"rules": {"pin": {f"sku-{chance.randrange(12)}": chance.randint(1, 5)}}}]}
        return {"name": chance.choice(("one", "two")), "content": content if chance.random() < 0.7 else None}

    def _turn(self) -> dict[str, Any]:
        return {"ms": self._chance.choice((5, 60, 400, 1100, 70_000))}

    def _jump(self) -> dict[str, Any]:
        return {"ms": self._chance.choice((-3, -1, 1, 3)) * self._chance.randint(1, 3_600_000)}

    def _compact(self) -> dict[str, Any]:
        return {"wait": self._chance.random() < 0.3}

    def _update(self) -> dict[str, Any]:
        return {"sessions": self._chance.randint(1, 3)}


def steps_of(text: str) -> list[Step]:
    """Return steps from words: who, what, values, and a fault, as in "A observe 1 sku-1, A compact !power 262"."""
    return [_step_of(*line.split(" !")) for line in text.split(", ")]


def _step_of(line: str, fault: str = "") -> Step:
    who, what, *words = line.split()
    values: dict[str, Any] = {}
    if what in ("observe", "forget"):
        values["session"] = int(words[0])
    if what == "observe":
        values["items"] = words[1:]
    elif what in ("add", "remove", "hide", "show"):
        values = dict(zip(("item", "near"), words, strict=False))
    elif what == "turn":
        values = {"ms": int(words[0]) if words else 1100}
    elif what == "compact":
        values = {"wait": bool(words)}
    elif what == "flood":
        values = {"sessions": int(words[0]), "bot": words[1:] == ["bot"]}
    elif what == "resend":
        values = {"back": int(words[0])}
    if not fault:
        return Step(what, who, values)
    kind, call, *more = fault.split()
    seed = int(more[0]) if more and more != ["after"] else 0
    return Step(what, who, values, [Fault(kind, int(call), more == ["after"], seed)])


def line_of(step: Step) -> str:
    """Return what a step does, in words."""
    values = ", ".join(f"{name} {value}" for name, value in step.values.items())
    return f"{step.who} {step.what}" + (f" ({values})" if values else "")
