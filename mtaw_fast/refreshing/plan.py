"""What a run does, and about how long it takes."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import trained_at
from mtaw_fast.data.moments import moment_of
from mtaw_fast.refreshing.config import RefreshConfig
from mtaw_fast.refreshing.day_files import as_logged, rows_of
from mtaw_fast.refreshing.measure import cannot_follow
from mtaw_fast.refreshing.state import RefreshState
from mtaw_fast.system.cpus import usable_cpus

_SEEN = 7  # runs whose P@20 is the usual one
_JUDGING = ("prepare", "candidate", "judge")  # the steps
_GB = 1e9
# Of an update: bytes of the process, and for a byte of the bundle (0.44 and 0.46 GB with 16 and 29 MB). Of judging one:
# a measurement's time (1.1 and 1.5 times).
_BASE, _TIMES_BUNDLE, _TIMES_MEASURED = 0.4e9, 4, 1.5


def how_to(config: RefreshConfig, state: RefreshState, run: dict[str, Any]) -> tuple[str, str]:
    """Return 'train' or 'update' for a run, and why."""
    rule = config.train
    if run["incumbent"] is None:
        return "train", "there is no bundle yet"
    incumbent = Bundle.load(config.bundles / run["incumbent"])
    if reason := cannot_follow(config, incumbent):
        return "train", reason
    if rule.how != "auto":
        return rule.how, "as the settings say"
    if run["drift"] is not None:
        return "train", run["drift"]
    trained = [earlier["begin"] for earlier in state.runs if earlier["done"].get("plan", {}).get("how") == "train"]
    if trained:
        age = (run["begin"] - max(trained)) / 1000
    else:
        moment = moment_of("created", trained_at(incumbent.manifest) or None)
        age = math.inf if moment is None else run["started"] - moment / 1000
    if age >= rule.every:
        return "train", f"the last training was {age / 86_400:.3g} days ago"
    if state.runs and state.runs[-1]["done"].get("plan", {}).get("how") == "update" and _worse(state.runs[-1]):
        return "train", "the last update was worse than the bundle before it"
    seen = [earlier["done"]["measure"]["frozen"] for earlier in state.runs if earlier["done"].get("measure")][-_SEEN:]
    measured = run["done"].get("measure")
    if measured and seen and measured["frozen"] < mean(seen) - rule.drift:
        return "train", f"P@20 fell to {measured['frozen']:.2f}, usually {mean(seen):.2f}"
    return "update", "the training is recent, and P@20 did not fall"


def _worse(run: dict[str, Any]) -> bool:
    return bool((run["done"].get("judge") or {"worse": []})["worse"])


def plan_lines(config: RefreshConfig, state: RefreshState, run: dict[str, Any]) -> list[str]:
    """Return the plan of a run, which has measured the served bundle, as text, with time and memory.

    Nothing that it makes stays.
    """
    how, why = how_to(config, state, run)
    lines = [f"{run['day']}: {how} ({why})"]
    if measured := run["done"].get("measure"):
        lines.append(
            f"the served bundle finds {measured['frozen']:.2f}% of {measured['samples']:,} clicks of it among its "
            f"first 20, {measured['learning']:.2f}% if it learns"
        )
    lines += _training_lines(config, state) if how == "train" else _update_lines(config, state, run)
    if run["against"] is None:
        return lines if run["incumbent"] is None else [*lines, "not judged: each bundle left knows this period"]
    if how == "update" and config.judge != "all":
        return [*lines, "not judged: judge = 'trainings'"]
    return [*lines, *_judging_lines(state, run, how)]


def _update_lines(config: RefreshConfig, state: RefreshState, run: dict[str, Any]) -> Iterator[str]:
    from mtaw_fast.training.plan.plan import minutes

    if earlier := _last(state, "update"):
        took = f"{minutes(earlier['seconds']['final'])} and {earlier['memory'] / _GB:.1f} GB of memory"
        yield f"update: {took}, as the last one"
        return
    size = sum(file.stat().st_size for file in (config.bundles / run["incumbent"]).iterdir() if file.is_file())
    yield f"update: seconds to minutes; memory about {(_BASE + _TIMES_BUNDLE * size) / _GB:.1f} GB"


def _judging_lines(state: RefreshState, run: dict[str, Any], how: str) -> Iterator[str]:
    from mtaw_fast.training.plan.plan import minutes

    if how == "train":
        yield "twice: without the newest period to judge it, then with it if nothing that must hold is worse"
    if earlier := _last(state, how):
        yield f"judging: {minutes(sum(earlier['seconds'][step] for step in _JUDGING))}, as the last time"
    elif (measured := run["done"].get("measure")) and how == "update":
        yield f"judging: about {minutes(_TIMES_MEASURED * measured['seconds'])}"


def _last(state: RefreshState, how: str) -> dict[str, Any] | None:
    """Return the last run that was made so and judged."""
    runs = [run for run in state.runs if run["done"].get("plan", {}).get("how") == how and run["done"].get("judge")]
    return runs[-1] if runs else None


def _training_lines(config: RefreshConfig, state: RefreshState) -> list[str]:
    from mtaw_fast.data.readers import read
    from mtaw_fast.training.memory_tables import TableMemory, training_table_memory
    from mtaw_fast.training.plan.estimate import plan_training
    from mtaw_fast.training.run import device_of
    from mtaw_fast.training.threads import Threads, training_threads

    options = dataclasses.replace(config.log.options, test_days=0.0)
    rows = rows_of([state.file_of(day) for day in state.accepted()])
    dataset = read("clicks", as_logged(rows, options), options=options)
    with (
        tempfile.TemporaryDirectory(prefix="mtaw-fast-plan-") as scratch,
        training_threads(Threads.of(usable_cpus(), 1)),
        training_table_memory(TableMemory(None, Path(scratch))),
    ):
        plan = plan_training(
            dataset, config.train.config, refit=True, device=device_of(config.train.device),
            budget_minutes=config.train.budget_minutes,
        )  # fmt: skip
    return plan.lines()
