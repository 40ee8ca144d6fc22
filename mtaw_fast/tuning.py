"""Search over the few settings that matter, on the validation sessions, with Optuna.

Every trial is trained on growing shares of the latest training sessions and measured on the same validation sessions.
A trial that is worse than the median of the earlier trials at the same share stops there. The highest trial replaces
the initial settings only if its gain is more than noise.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtaw_fast.config import DEFAULT_PRESET, Config, preset
from mtaw_fast.config.type_weights import by_code
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import TrainingError, UsageError, require
from mtaw_fast.evaluation.paired import Difference, gains_over

if TYPE_CHECKING:
    from mtaw_fast.training.plan.plan import Plan

BY = "MRR@20"
SHARES = (0.1, 0.3, 1.0)  # of the training sessions, the latest ones
_DEFAULTS = Config().settings()  # whose types are those of the settings
_UNPRUNED = 4  # trials that always finish, for the median
_WEIGHTS = "setting type_weights"
_FEWEST_SESSIONS = 50  # of the smallest share


@dataclass(frozen=True, slots=True)
class Range:
    """The range of a setting. log: search evenly on a logarithmic scale."""

    low: float
    high: float
    log: bool = False


COMMON = {"lr": Range(5e-4, 8e-3, True), "gamma": Range(0, 6), "dropout": Range(0, 0.3)}
WITH_MEMORY = {
    "recency": Range(0.02, 1, True),
    "ranker_lr": Range(2e-3, 2e-2, True),
    "cooccurrence_candidates": Range(40, 200, True),
}
WITHOUT_MEMORY = {"spectral_share": Range(0.3, 1), "itl_gain": Range(10, 120, True)}


@dataclass(frozen=True, slots=True)
class Trial:
    """One choice of settings.

    Attributes
    ----------
    number : int
        From 0; trial 0 has the given settings.
    settings : dict
        The settings tried.
    metrics : dict of str to float
        On the validation sessions, in percent, at the last share reached.
    share : float
        The last share of the training sessions.
    state : {'complete', 'pruned', 'failed'}
        'failed' if its loss was not finite.
    """

    number: int
    settings: dict[str, Any]
    metrics: dict[str, float]
    share: float
    state: str


@dataclass(frozen=True, slots=True)
class Tuned:
    """The result of `tune`.

    Attributes
    ----------
    config : Config
        The settings of `chosen`. If the plan chose to sample (`training.plan.plan`), `softmax` is 'sampled' instead of
        'auto'.
    best : Trial
        The highest of the finished trials by the objective.
    trials : list of Trial
        All of them, in order.
    objective : str
        What was searched for: MRR@20 on so many validation samples, weighted by type if the settings say so.
    gains : mapping of str to Difference
        By metric what `best` gains over the initial settings, with paired intervals over sessions that hold for all
        trials together, also those that were stopped: the same sessions chose between them. Empty if `best` has the
        initial settings, or these did not finish.
    """

    config: Config
    best: Trial
    trials: list[Trial] = field(default_factory=list)
    objective: str = BY
    gains: Mapping[str, Difference] = field(default_factory=dict)

    @property
    def better(self) -> bool:
        """Whether the gain of `best` over the initial settings is more than noise: its interval is above 0."""
        gain = self.gains.get(BY)
        return gain is not None and gain.shown and gain.difference > 0

    @property
    def chosen(self) -> Trial:
        """`best` if it is better, or if the initial settings did not finish; else the trial of the initial settings."""
        initial = self.trials[0]
        return self.best if self.better or initial.state != "complete" else initial

    def assignments(self) -> list[str]:
        """Return the chosen settings as `--set` takes them, and the softmax if the plan chose it."""
        assignments = [f"{name}={value!r}" for name, value in self.chosen.settings.items()]
        return (
            assignments if self.config.loss.softmax == "auto" else [*assignments, f"softmax={self.config.loss.softmax}"]
        )


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
    """Search for better settings on a data set's validation sessions; the test is never read.

    Parameters
    ----------
    dataset : Dataset or path
        A data set of `prepare`.
    config : Config or str, default 'full'
        Settings to start from, or the name of a preset; they are the first trial.
    trials : int, default 20
        Largest number of trials.
    seconds : float, optional
        No trial starts after this time.
    seed : int, default 0
        Of the search; the trainings use the seed of the config.
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
        If trials is below 1, or the data set is too small to search on.
    TrainingError
        If no trial could be trained.
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
    fitted, held_out = data.train.split_last(base.optimizer.validation_fraction)
    if SHARES[0] * len(fitted) < _FEWEST_SESSIONS:
        raise UsageError(
            f"tune: {data.name} has {len(fitted):,} sessions to train on, too few to search on; use a longer log"
        )
    plan = _planned(data, base, device, threads)
    space = COMMON | (WITH_MEMORY if base.memory.enabled else WITHOUT_MEMORY)
    if base.model.init != "structured":  # only structured weights read these
        space = {name: within for name, within in space.items() if name not in WITHOUT_MEMORY}
    initial = {name: base.settings()[name] for name in space}
    samples = Samples.from_sessions(held_out, data.min_prefix)
    by_type = by_code(base.loss.type_weights, data.type_names, _WEIGHTS)
    weights = None if by_type is None or samples.target_types is None else by_type[samples.target_types]
    ended: list[Trial] = []
    failures: list[TrainingError] = []
    ranks: dict[int, np.ndarray] = {}

    def objective(trial: Any) -> float:
        settings: dict[str, Any] = {name: _suggested(trial, name, space[name], initial[name]) for name in space}
        metrics: dict[str, float] = {}
        reached, state = 0.0, "complete"
        try:
            for step, share in enumerate(SHARES):
                final = step + 1 == len(SHARES)
                metrics, sample_ranks = _scored(
                    data, base.replace(**settings), share, device, threads, plan, samples if final else None
                )
                if sample_ranks is not None:
                    ranks[trial.number] = sample_ranks
                reached = share
                trial.report(metrics[BY], step)
                if step + 1 < len(SHARES) and trial.should_prune():
                    state = "pruned"
                    raise optuna.TrialPruned
        except TrainingError as error:
            state = "failed"
            failures.append(error)
            raise
        finally:
            ended.append(Trial(trial.number, settings, metrics, reached, state))
            if progress is not None:
                progress(ended[-1])
        return metrics[BY]

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a warning has the traceback of a failed trial
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED),
    )
    study.enqueue_trial(initial)
    study.optimize(objective, n_trials=trials, timeout=seconds, catch=(TrainingError,))
    finished = [trial for trial in ended if trial.state == "complete"]
    if not finished:
        reason = f"the first one ended with: {failures[0]}" if failures else "there was no time for one"
        raise TrainingError(f"tune: no trial finished its training; {reason}")
    best = max(finished, key=lambda trial: (trial.metrics[BY], -trial.number))
    gains: dict[str, Difference] = {}
    if best.number and 0 in ranks:
        gains = gains_over(ranks[0], ranks[best.number], samples.session, measured_trials(ended) - 1, weights)
    base = plan.settle(base) if plan.samples_by_rule else base
    weighted = "" if weights is None else ", weighted by the types of the targets"
    described = f"{BY} on {len(samples):,} validation samples of {len(np.unique(samples.session)):,} sessions{weighted}"
    tuned = Tuned(base, best, ended, described, gains)
    return dataclasses.replace(tuned, config=base.replace(**tuned.chosen.settings))


def measured_trials(trials: Sequence[Trial]) -> int:
    """Return how many trials were measured, to the end or until they were stopped."""
    return sum(trial.state != "failed" for trial in trials)


def _suggested(trial: Any, name: str, within: Range, base: Any) -> float | int:
    """Suggest a value of a setting; the range includes the starting value."""
    low, high = min(within.low, base), max(within.high, base)
    log = within.log and low > 0
    if isinstance(_DEFAULTS[name], int):
        return trial.suggest_int(name, int(low), int(high), log=log)
    return trial.suggest_float(name, low, high, log=log)


def _planned(data: Dataset, config: Config, device: str, threads: int | None) -> Plan:
    """Return the plan of the whole training. All trials use it, since their own might differ in the softmax."""
    from mtaw_fast.training.plan.estimate import plan_training
    from mtaw_fast.training.repeating_types import log_weights
    from mtaw_fast.training.run import device_of, log_plan
    from mtaw_fast.training.threads import Threads, training_threads

    with training_threads(Threads.of(threads)):
        plan = plan_training(data, config, device=device_of(device))
    log_plan(plan)
    log_weights(data.train, data.type_names, by_code(config.loss.type_weights, data.type_names, _WEIGHTS))
    return plan


def _scored(
    data: Dataset,
    config: Config,
    share: float,
    device: str,
    threads: int | None,
    plan: Plan,
    samples: Samples | None = None,
) -> tuple[dict[str, float], np.ndarray | None]:
    """Train on the latest `share` of the other sessions; return the metrics on the validation sessions, and the ranks
    int32[S] of their samples if these are given."""
    from mtaw_fast.training import train
    from mtaw_fast.training.trained_model import served_ranks, with_types_for

    fitted, held_out = data.train.split_last(config.optimizer.validation_fraction)
    begin = len(fitted) - max(round(share * len(fitted)), 1)
    latest = Sessions.concatenate([fitted.slice(begin, len(fitted)), held_out])
    same_held_out = config.replace(validation_fraction=len(held_out) / len(latest))
    part = dataclasses.replace(data, train=latest)
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-tune-") as folder:
        trained = train(
            part, same_held_out, Path(folder) / "run", refit=False, device=device, threads=threads, plan=plan
        )
    ranks = None
    if samples is not None:
        ranks = served_ranks(trained.model, with_types_for(trained.model, samples, data.type_names))
    return {name: float(value) for name, value in trained.metrics.items()}, ranks
