"""Runs histories, shrinks one that breaks a promise to a short one, and stops one at each of its calls."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.simulation.history import Fault, History, Step, steps_of
from tests.simulation.run import Run
from tests.simulation.world import WRITING

PLAIN = {
    "fsync": True, "segment_bytes": 64 << 20, "max_log_bytes": 2 << 30, "redis": False, "guarded": False,
    "read_events": 2000, "gap": 1_800_000, "timed": False, "part_bytes": 16 << 20, "groups": 1,
}  # fmt: skip
_MAX_RUNS = 600  # of one shrinking


def failure_of(history: History) -> tuple[str, list[str]]:
    """Run a history; return why it fails, "" if it does not, and its story."""
    run = Run(copy.deepcopy(history))
    try:
        run.go()
    except Exception as error:
        return f"{type(error).__name__}: {error}", run.world.story
    return "", run.world.story


def kind_of(failure: str) -> str:
    """Return what failures of one cause share: the words, without names and numbers."""
    return " ".join(word for word in failure.split() if word.isalpha())[:60]


def shrunk(history: History) -> History:
    """Return a shorter history that fails in the same way: fewer steps and faults, and plain settings."""
    kind = kind_of(failure_of(history)[0])
    runs = 0
    improved = True
    while improved and runs < _MAX_RUNS:
        improved = False
        for shorter in _shorter(history):
            runs += 1
            failure = failure_of(shorter)[0]
            if failure and kind_of(failure) == kind:
                history, improved = shorter, True
                break
            if runs >= _MAX_RUNS:
                break
    return history


def _shorter(history: History) -> Iterator[History]:
    steps = history.steps
    size = len(steps) // 2
    while size:
        for begin in range(0, len(steps), size):
            yield replace(history, steps=steps[:begin] + steps[begin + size :])
        size //= 2
    for name, value in PLAIN.items():
        if history.settings[name] != value:
            yield replace(history, settings={**history.settings, name: value})
    for place, step in enumerate(steps):
        for simpler in _simpler(step):
            yield replace(history, steps=[*steps[:place], simpler, *steps[place + 1 :]])


def _simpler(step: Step) -> Iterator[Step]:
    for place, fault in enumerate(step.faults):
        others = [*step.faults[:place], *step.faults[place + 1 :]]
        yield replace(step, faults=others)
        for number, inner in enumerate(fault.steps):
            fewer = [*fault.steps[:number], *fault.steps[number + 1 :]]
            if fewer:
                yield replace(step, faults=[*others, replace(fault, steps=fewer)])
            for simpler in _simpler(inner):
                changed = [*fault.steps[:number], simpler, *fault.steps[number + 1 :]]
                yield replace(step, faults=[*others, replace(fault, steps=changed)])
    items = step.values.get("items", [])
    for place in range(len(items)):
        if len(items) > 1:
            yield replace(step, values={**step.values, "items": [*items[:place], *items[place + 1 :]]})
    rows = step.values.get("rows", {})
    for item in rows:
        if len(rows) > 1:
            yield replace(step, values={**step.values, "rows": {other: rows[other] for other in rows if other != item}})


_SAFE = {"lock", "close"}  # calls that do not fail
_READING = {"open_file", "exists", "status", "listing", *_SAFE}  # and those that leave files as they are


def stops(names: Sequence[str]) -> Iterator[Fault]:
    """Yield a fault at each call of a step, given the calls' names; of those that leave the same state, one.

    What a process leaves are its files: so it is killed before the calls that change some, and within writes. The power
    fails there and before flushes.
    """
    for call, name in enumerate(names, 1):
        if name not in _SAFE:
            yield Fault("error", call, seed=call)
        if name in WRITING:
            yield Fault("full", call, seed=call)
        if name in _READING:
            continue
        for kind in ("power",) if name == "fsync" else ("kill", "power"):
            yield Fault(kind, call, seed=call)
            if name.endswith("write"):
                yield Fault(kind, call, after=True, seed=call)


def stopped_everywhere(place: int, every: int = 1) -> Iterator[tuple[History, str, list[str]]]:
    """Run `EVENTFUL` with each of the `stops` of one of its steps, or every n-th; yield as `failure_of`.

    place: of the step.
    """
    run = Run(copy.deepcopy(EVENTFUL))
    run.go()
    step = run.history.steps[place]
    names = next(frame.calls for frame in run.world.done if frame.step is step)
    for fault in itertools.islice(stops(names), 0, None, every):
        steps = copy.deepcopy(EVENTFUL.steps)
        steps[place].faults.append(fault)
        history = replace(EVENTFUL, steps=steps)
        yield history, *failure_of(history)


EVENTFUL = History(
    5,
    {**PLAIN, "segment_bytes": 1200, "max_log_bytes": 3000, "read_events": 7},
    [
        *steps_of("A start, A observe 1 sku-1 new-1 sku-2, A observe 2 new-2 sku-3, A turn 400, A compact, A turn"),
        *steps_of("A observe 2 sku-4 new-3, A forget 1, A forget 2"),
        Step("set_items", "A", {"mode": "patch", "rows": {"sku-1": {"on": True}}, "kind": "", "availability": True}),
        *steps_of(f"A observe 3 {'sku-5 new-1 ' * 8}, A compact, A turn, A observe 3 sku-6, A stop, A start"),
    ],
)
