"""What a run does, and about how long it takes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from mtaw_fast.bundle import Bundle
from mtaw_fast.refreshing.config import RefreshConfig
from mtaw_fast.refreshing.state import RefreshState
from mtaw_fast.system.cpus import usable_cpus

_SEEN = 7  # runs whose P@20 is the usual one


def how_to(config: RefreshConfig, state: RefreshState, run: dict[str, Any]) -> tuple[str, str]:
    """Return 'train' or 'update' for a run, and why."""
    rule = config.train
    if run["incumbent"] is None:
        return "train", "there is no bundle yet"
    incumbent = Bundle.load(config.bundles / run["incumbent"])
    if incumbent.memory is None or not incumbent.dataset.get("reader"):
        return "train", "the served bundle does not learn from a log"
    if rule.how != "auto":
        return rule.how, "as the settings say"
    trained = [earlier["begin"] for earlier in state.runs if earlier["done"].get("plan", {}).get("how") == "train"]
    if not trained or run["begin"] - max(trained) >= rule.every * 1000:
        days = "" if not trained else f" {(run['begin'] - max(trained)) / 86_400_000:g} days ago"
        return "train", f"the last training was{days or ' before the first refresh'}"
    seen = [earlier["done"]["measure"]["frozen"] for earlier in state.runs if earlier["done"].get("measure")][-_SEEN:]
    measured = run["done"].get("measure")
    if measured and seen and measured["frozen"] < mean(seen) - rule.drift:
        return "train", f"P@20 fell to {measured['frozen']:.2f}, usually {mean(seen):.2f}"
    return "update", "the training is recent, and P@20 did not fall"


def plan_lines(config: RefreshConfig, state: RefreshState, run: dict[str, Any]) -> list[str]:
    """Return the plan of a run as text, with time and memory; nothing that it makes stays."""
    how, why = how_to(config, state, run)
    lines = [f"{run['day']}: {how} ({why})"]
    if how == "update":
        earlier = [past["seconds"]["final"] for past in state.runs if past["done"].get("plan", {}).get("how") == how]
        from mtaw_fast.training.plan.plan import minutes

        return [*lines, f"update: {minutes(earlier[-1]) if earlier else 'seconds to minutes'}, as the last one"]
    lines += _training_lines(config, state)
    if run["incumbent"] is not None:
        lines.append("twice: without the newest period to judge it, then with it if nothing that must hold is worse")
    return lines


def _training_lines(config: RefreshConfig, state: RefreshState) -> list[str]:
    from mtaw_fast.data.readers import read
    from mtaw_fast.refreshing.days import day_options
    from mtaw_fast.training.memory_tables import TableMemory, training_table_memory
    from mtaw_fast.training.plan.estimate import plan_training
    from mtaw_fast.training.run import device_of
    from mtaw_fast.training.threads import Threads, training_threads

    dataset = read("clicks", state.days_folder, options=day_options(config.log.options, 0.0))
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
