"""Runs histories, shrinks one that breaks a promise to a short one, and stops one at each of its calls."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

from tests.simulation.history import Fault, History, Step
from tests.simulation.run import Run

PLAIN = {
    "fsync": True, "segment_bytes": 64 << 20, "max_log_bytes": 2 << 30, "redis": False, "guarded": False,
    "read_events": 2000, "gap": 1_800_000, "timed": False, "part_bytes": 16 << 20,
}  # fmt: skip
_MOST_RUNS = 600  # of one shrinking


def failure_of(history: History) -> tuple[str, list[str]]:
    """Run a history; return why it fails, "" if it does not, and its story."""
    run = Run(copy.deepcopy(history))
    try:
        run.go()
    except Exception as error:
        return f"{type(error).__name__}: {error}", run.story
    return "", run.story


def kind_of(failure: str) -> str:
    """Return what failures of one cause share: the words, without names and numbers."""
    return " ".join(word for word in failure.split() if word.isalpha())[:60]


def shrunk(history: History) -> History:
    """Return a shorter history that fails in the same way: fewer steps and faults, and plain settings."""
    kind = kind_of(failure_of(history)[0])
    runs = 0
    found = True
    while found and runs < _MOST_RUNS:
        found = False
        for shorter in _shorter(history):
            runs += 1
            if kind_of(failure_of(shorter)[0]) == kind:
                history, found = shorter, True
                break
            if runs >= _MOST_RUNS:
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
            for one in _simpler(inner):
                changed = [*fault.steps[:number], one, *fault.steps[number + 1 :]]
                yield replace(step, faults=[*others, replace(fault, steps=changed)])
    items = step.values.get("items", [])
    for place in range(len(items)):
        if len(items) > 1:
            yield replace(step, values={**step.values, "items": [*items[:place], *items[place + 1 :]]})


STOPS = (("kill", False), ("kill", True), ("power", False), ("power", True), ("error", False), ("full", False))


def stopped_everywhere(
    place: int, kind: str, after: bool = False, every: int = 1
) -> Iterator[tuple[History, str, list[str]]]:
    """Run `EVENTFUL` with a fault at each call of one of its steps, or at every n-th; yield as `failure_of`.

    place: of the step. kind, after: of the fault; `STOPS` has those that differ.
    """
    call = 1
    while True:
        steps = copy.deepcopy(EVENTFUL.steps)
        steps[place].faults.append(Fault(kind, call, after, seed=call))
        history = replace(EVENTFUL, steps=steps)
        failure, story = failure_of(history)
        if not any(line.lstrip().startswith("* ") for line in story):
            return  # the step has fewer calls
        yield history, failure, story
        call += every


EVENTFUL = History(
    5,
    {**PLAIN, "segment_bytes": 1200, "max_log_bytes": 3000, "read_events": 7},
    [
        Step("start", "A"),
        Step("observe", "A", {"session": 1, "items": ["sku-1", "new-1", "sku-2"]}),
        Step("observe", "A", {"session": 2, "items": ["new-2", "sku-3"]}),
        Step("turn", "A", {"ms": 400}),
        Step("compact", "A", {"wait": False}),
        Step("turn", "A", {"ms": 1100}),
        Step("observe", "A", {"session": 2, "items": ["sku-4", "new-3"]}),
        Step("forget", "A", {"session": 1}),
        Step("forget", "A", {"session": 2}),
        Step("set_items", "A", {"mode": "patch", "rows": {"sku-1": {"on": True}}, "kind": "", "availability": True}),
        Step("observe", "A", {"session": 3, "items": ["sku-5", "new-1"] * 8}),
        Step("compact", "A", {"wait": False}),
        Step("turn", "A", {"ms": 1100}),
        Step("observe", "A", {"session": 3, "items": ["sku-6"]}),
        Step("stop", "A"),
        Step("start", "A"),
    ],
)  # fmt: skip
