"""A search over the few settings that matter, on the validation sessions, with Optuna.

Every trial is trained on a growing share of the latest training sessions and scored on the same held-out ones each
time; one that is worse than the median of the earlier trials at the same share is given up there.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtaw_fast.config import DEFAULT_PRESET, Config, preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import TrainingError, UsageError, require

if TYPE_CHECKING:
    from mtaw_fast.training.plan.plan import Plan

BY = "MRR@20"
SHARES = (0.1, 0.3, 1.0)  # of the training sessions, the latest ones
_UNPRUNED = 4  # trials that are finished whatever they score: the median needs some
_LEAST_SESSIONS = 50  # of the smallest share


@dataclass(frozen=True, slots=True)
class Range:
    """Where a setting is looked for. log: evenly by its logarithm."""

    low: float
    high: float
    log: bool = False


COMMON = {"lr": Range(5e-4, 8e-3, True), "gamma": Range(0, 6), "dropout": Range(0, 0.3)}
WITH_MEMORY = {
    "recency": Range(0.02, 1, True),
    "ranker_lr": Range(2e-3, 2e-2, True),
    "near_candidates": Range(40, 200, True),
}
WITHOUT_MEMORY = {"spectral_share": Range(0.3, 1), "itl_gain": Range(10, 120, True)}


@dataclass(frozen=True, slots=True)
class Trial:
    """One choice of settings.

    Attributes
    ----------
    number : int
        From 0 on; 0 is the settings as they were.
    settings : dict
        What was tried.
    metrics : dict of str to float
        On the validation sessions, in percent, at the last share that was reached.
    share : float
        That share of the training sessions.
    state : {'complete', 'pruned', 'failed'}
        Failed: its loss was not finite.
    """

    number: int
    settings: dict[str, Any]
    metrics: dict[str, float]
    share: float
    state: str


@dataclass(frozen=True, slots=True)
class Tuned:
    """What `tune` found.

    Attributes
    ----------
    config : Config
        The best of the finished trials, by MRR@20. Where the rule of the softmax sampled in all of them
        (`training.plan.plan`), `softmax` is 'sampled' and no longer 'auto'.
    best : Trial
        That trial.
    trials : list of Trial
        All of them, in order.
    """

    config: Config
    best: Trial
    trials: list[Trial] = field(default_factory=list)

    def assignments(self) -> list[str]:
        """The best settings as `--set` takes them, and the softmax where that is settled."""
        found = [f"{name}={value!r}" for name, value in self.best.settings.items()]
        return found if self.config.loss.softmax == "auto" else [*found, f"softmax={self.config.loss.softmax}"]


def tune(
    dataset: Dataset | str | os.PathLike[str],
    config: Config | str = DEFAULT_PRESET,
    *,
    trials: int = 20,
    seconds: float | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    progress: Callable[[Trial], object] | None = None,
) -> Tuned:
    """Look for better settings on a data set's validation sessions; its test is never read.

    Parameters
    ----------
    dataset : Dataset or path
        What `prepare` made.
    config : Config or str, default 'full'
        Settings to begin with, or the name of a preset; they are the first trial.
    trials : int, default 20
        At most.
    seconds : float, optional
        After which no further trial begins.
    seed : int, default 0
        Of the search; that of the trainings is the config's.
    device, threads
        As in `train`.
    progress : callable, optional
        Called with each Trial when it ends.

    Returns
    -------
    Tuned

    Raises
    ------
    UsageError
        On a count of trials below 1, or a data set too small to be searched on.
    TrainingError
        Where no trial could be trained.
    MissingPackageError
        Without the extras `tune` and `train`.
    """
    optuna = require("optuna", "tune")
    require("torch", "train")
    if trials < 1:
        raise UsageError(f"tune: trials must be at least 1, not {trials}")
    if seconds is not None and not seconds > 0:
        raise UsageError(f"tune: seconds must be above 0, not {seconds:g}")
    base = preset(config) if isinstance(config, str) else config
    data = dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)
    fitted, _ = data.train.split_last(base.optimizer.validation_fraction)
    if SHARES[0] * len(fitted) < _LEAST_SESSIONS:
        raise UsageError(
            f"tune: {data.name} has {len(fitted):,} sessions to train on, too few to search on; give a longer log"
        )
    plan = _planned(data, base, device, threads)
    space = COMMON | (WITH_MEMORY if base.memory.enabled else WITHOUT_MEMORY)
    initial = {name: base.settings()[name] for name in space}
    ended: list[Trial] = []

    def objective(trial: Any) -> float:
        settings: dict[str, Any] = {name: _suggested(trial, name, space[name], initial[name]) for name in space}
        metrics: dict[str, float] = {}
        reached, state = 0.0, "complete"
        try:
            for step, share in enumerate(SHARES):
                metrics = _scored(data, base.replace(**settings), share, device, threads, plan)
                reached = share
                trial.report(metrics[BY], step)
                if step + 1 < len(SHARES) and trial.should_prune():
                    state = "pruned"
                    raise optuna.TrialPruned
        except TrainingError:
            state = "failed"
            raise
        finally:
            ended.append(Trial(trial.number, settings, metrics, reached, state))
            if progress is not None:
                progress(ended[-1])
        return metrics[BY]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED),
    )
    study.enqueue_trial(initial)
    study.optimize(objective, n_trials=trials, timeout=seconds, catch=(TrainingError,))
    finished = [trial for trial in ended if trial.state == "complete"]
    if not finished:
        raise TrainingError("tune: no trial could be trained to its end; lower lr or scale and search again")
    best = max(finished, key=lambda trial: (trial.metrics[BY], -trial.number))
    base = plan.settle(base) if plan.samples_by_rule else base
    return Tuned(base.replace(**best.settings), best, ended)


def _suggested(trial: Any, name: str, within: Range, base: Any) -> float | int:
    """A value of a setting, of its kind; the range takes in the one to begin with."""
    low, high = min(within.low, base), max(within.high, base)
    log = within.log and low > 0
    if isinstance(base, int):
        return trial.suggest_int(name, int(low), int(high), log=log)
    return trial.suggest_float(name, low, high, log=log)


def _planned(data: Dataset, config: Config, device: str, threads: int | None) -> Plan:
    """The plan of the training that is searched for, which all trials take: their own might differ in the softmax."""
    from mtaw_fast.training.plan.estimate import plan_training
    from mtaw_fast.training.plan.threads import Threads, training_threads
    from mtaw_fast.training.run import device_of, log_plan

    with training_threads(Threads.of(threads)):
        plan = plan_training(data, config, device=device_of(device))
    log_plan(plan)
    return plan


def _scored(
    data: Dataset, config: Config, share: float, device: str, threads: int | None, plan: Plan
) -> dict[str, float]:
    """Metrics on the validation sessions of a training on the latest `share` of all others."""
    from mtaw_fast.training import train

    fitted, held_out = data.train.split_last(config.optimizer.validation_fraction)
    begin = len(fitted) - max(round(share * len(fitted)), 1)
    latest = Sessions.concatenate([fitted.slice(begin, len(fitted)), held_out])
    same_held_out = config.replace(validation_fraction=len(held_out) / len(latest))
    part = dataclasses.replace(data, train=latest)
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-tune-") as folder:
        trained = train(
            part, same_held_out, Path(folder) / "run", refit=False, device=device, threads=threads, plan=plan
        )
    return {name: float(value) for name, value in trained.metrics.items()}
