"""A whole training: its phases in order (`mtaw_fast.config.phases`), resumed where an earlier run stopped."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from mtaw_fast.config import Config
from mtaw_fast.config.phases import phases_of
from mtaw_fast.config.type_weights import by_code
from mtaw_fast.data.context import ClickContext
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError, UsageError, require
from mtaw_fast.evaluation import report_of
from mtaw_fast.items import ItemTable
from mtaw_fast.items.text_embedding import text_embedding
from mtaw_fast.kernels.native.loss import release_kept_blocks
from mtaw_fast.memory import RankerNet
from mtaw_fast.memory.trends import trend_settings
from mtaw_fast.model.model import Model
from mtaw_fast.storage.files import folder_lock
from mtaw_fast.system.memory_use import give_back_freed
from mtaw_fast.training.checkpoints import RunFolder
from mtaw_fast.training.content import with_content
from mtaw_fast.training.encoder.fit_encoder import Fitting, weights_of
from mtaw_fast.training.encoder.runner import Runner
from mtaw_fast.training.encoder.validation import check_held_out
from mtaw_fast.training.memory_tables import TableMemory, build_tables, build_trends, training_table_memory
from mtaw_fast.training.plan.estimate import plan_training
from mtaw_fast.training.plan.plan import BUDGET_MINUTES, Plan
from mtaw_fast.training.progress import Reporter, Silent
from mtaw_fast.training.ranker.feature_importance import feature_importance
from mtaw_fast.training.ranker.side_inputs import SideInputs
from mtaw_fast.training.ranker.train_ranker import (
    fit_samples,
    fit_settings,
    ranker_samples,
    split_for_ranker,
    with_fit_settings,
)
from mtaw_fast.training.repeating_types import log_weights
from mtaw_fast.training.run_state import RunState
from mtaw_fast.training.steps.batch import typed
from mtaw_fast.training.threads import Threads, training_threads
from mtaw_fast.training.trained_model import TrainedModel, served_later_metrics, served_ranks, with_types_for

Kept = Mapping[str, str]  # files that the run still needs: past, weights, ranker
Phase = Callable[[str], Kept]  # takes its name

_DONE = "done"


class TrainingGroup(Protocol):
    """A group of processes that train one model (`training.group`), as rank 0 uses it."""

    def runner(self, config: Config, n_items: int) -> Runner: ...
    def mark(self, folder: Path) -> None: ...


def train(
    dataset: Dataset,
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    refit: bool = True,
    device: str = "auto",
    reporter: Reporter | None = None,
    threads: int | None = None,
    encoder_threads: int = 1,
    table_memory: int | None = None,
    group: TrainingGroup | None = None,
    budget_minutes: float = BUDGET_MINUTES,
    planned: Callable[[Plan], object] | None = None,
    plan: Plan | None = None,
) -> TrainedModel:
    """Train MTAW on `dataset`, with state and checkpoints in the run folder `folder`.

    The last `validation_fraction` of the sessions choose the epoch; with a session memory they only measure it. With
    `refit` new models are then trained on all sessions, for that many epochs under the same schedule. `resume`
    continues an interrupted run after its last whole epoch, with the same bits on a CPU as without the interruption.

    threads, encoder_threads: see `training.threads`.
    table_memory: bytes for building the session memory's tables (`training.memory_tables`). No bit of the result
        depends on it.
    group: processes that take part in every phase of an encoder, each on its own device.
    budget_minutes: longest training with the full softmax, if the plan chooses the softmax (`training.plan.plan`).
    planned: called with the plan before the training starts; by default the plan goes to the log.
    plan: an earlier plan for a new run: nothing is measured or logged.

    Raises UsageError if the folder has another run, or a setting does not fit the data set; MissingPackageError if
    matplotlib is not installed; DataError if the data set has no validation samples, too many, or clicks before 1970
    for a ranker with trends; TrainingError on a loss that is not finite.
    """
    device_here = device_of(device) if group is None else None
    threads_here = Threads.of(threads, encoder_threads)
    # Report what is wrong now instead of after the first phases.
    require("matplotlib", "train")  # of curves.png
    if config.model.text_model and dataset.items is not None:
        text_embedding(config.model.text_model)
    timed = config.memory.trends and config.ranker.prequential and dataset.train.times is not None
    if config.memory.enabled:
        fit_settings(config, timed=timed).kept(_side_of(dataset, config).names(trends=timed))
        if timed:
            trend_settings(config)
            _check_times(dataset)
    limit = TableMemory(table_memory, folder)
    with folder_lock(folder, UsageError), training_threads(threads_here), training_table_memory(limit):
        check_held_out(dataset, config)
        type_weights = _weights_of_types(dataset, config)
        if plan is None:  # a search with one plan has warned
            log_weights(dataset.train, dataset.type_names, type_weights)
        identity = {
            "config": config.as_dict(),
            "dataset": dataset.fingerprint,
            "min_prefix": dataset.min_prefix,
            "refit": refit,
            "items": _digest(dataset.items),
        }
        state = RunState(RunFolder(folder), identity, phases_of(config, refit)[0])
        if device_here is not None:
            runner: Runner = Runner(device_here)
        else:
            assert group is not None
            runner = group.runner(config, dataset.n_items)
        state.open(resume, overwrite)
        if group is not None:
            _check_group_can_resume(state)
            group.mark(folder)
            config = config.replace(softmax="full")
        else:
            if plan is None:
                plan = _plan_of(dataset, config, state, refit, runner.device, budget_minutes)
                (planned or log_plan)(plan)
            state.set_plan(plan.as_dict())
            config = plan.settle(config)
        if config.memory.enabled:
            config = with_fit_settings(config, timed=timed)
        return _Run(dataset, config, state, runner, reporter or Silent(), refit, type_weights).finish()


def log_plan(plan: Plan) -> None:
    """Log the plan's lines to `mtaw_fast`: as a warning if the plan, not the settings, chose to sample."""
    log = logging.getLogger("mtaw_fast").log
    for line in plan.lines():
        log(logging.WARNING if plan.samples_by_rule else logging.INFO, line)


def device_of(name: str) -> torch.device:
    """Return the device of that name, the best one for auto. Raises UsageError if it does not work."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.split(":")[0] not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} cannot be used; choose auto, cpu or cuda")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # Triton launches on the current one
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used ({str(error).splitlines()[0]}); try --device cpu") from None
    return device


def _side_of(dataset: Dataset, config: Config) -> SideInputs:
    return SideInputs.of(dataset, types=config.ranker.event_types)


def _check_times(dataset: Dataset) -> None:
    """Raise DataError if a click is from before 1970, which trends cannot count."""
    assert dataset.train.times is not None
    if dataset.train.times.min(initial=0) < 0:
        raise DataError(
            f"data set {dataset.name}: a click is from before 1970, which is no time of a click; prepare it with "
            "--since 1970-01-01"
        )


def _digest(table: ItemTable | None) -> str | None:
    """Return a hash of the values of an item table, whenever it was read and what is new; None without one."""
    if table is None:
        return None
    digest = hashlib.sha256()
    for name, array in replace(table, made=0, new={}).arrays().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _weights_of_types(dataset: Dataset, config: Config) -> np.ndarray | None:
    """Return the weights of targets by type; raises UsageError if the data set cannot support the settings."""
    weights = by_code(config.loss.type_weights, dataset.type_names, "setting type_weights")
    if weights is not None:
        typed(dataset.train)  # raises UsageError if there are names of types but no types
        _, held_out = dataset.train.split_last(config.optimizer.validation_fraction)
        if not _sample_weights(Samples.from_sessions(held_out, dataset.min_prefix), weights).any():
            raise UsageError(
                "setting type_weights: every target of the validation sessions has the weight 0; give more types a "
                "weight, or hold more sessions out (--set validation_fraction=0.1)"
            )
    return weights


def _plan_of(
    dataset: Dataset, config: Config, state: RunState, refit: bool, device: torch.device, budget_minutes: float
) -> Plan:
    """Return the plan that the run made at its start, or make one."""
    if state["plan"] is not None:
        return Plan.from_dict(state["plan"])
    by_group = bool(state["history"])  # a group makes no plan and takes the full softmax
    plan = plan_training(
        dataset, config.replace(softmax="full") if by_group else config, refit=refit, device=device,
        budget_minutes=budget_minutes, folder=state.files.folder,
    )  # fmt: skip
    release_kept_blocks()  # a trial of the full softmax may have the largest ones
    return replace(plan, why="as the run began") if by_group else plan


def _check_group_can_resume(state: RunState) -> None:
    """Raise UsageError if the run samples, which a group cannot do."""
    if state["plan"] is not None and state["plan"]["softmax"] == "sampled":
        raise UsageError(
            f"{state.files.folder} has a training with the sampled softmax, which a group of processes does not "
            "support; resume it without torchrun, or start over with --overwrite"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Runs the remaining phases of a training. config: the settings, with the softmax decided."""

    dataset: Dataset
    config: Config
    state: RunState
    runner: Runner
    reporter: Reporter
    refit: bool
    type_weights: np.ndarray | None

    @property
    def _files(self) -> Path:
        return self.state.files.folder

    @property
    def _fitting(self) -> Fitting:
        dataset = self.dataset
        return Fitting(
            self.config, dataset.n_items, dataset.min_prefix, self.runner, self.state, self.reporter, self.type_weights
        )

    def finish(self) -> TrainedModel:
        """Run every phase that is left and return the model."""
        fitted, held_out = self.dataset.train.split_last(self.config.optimizer.validation_fraction)
        phases = self._phases(fitted, held_out)
        names = list(phases)
        following = dict(zip(names, [*names[1:], _DONE], strict=True))
        while (phase := self.state["phase"]) != _DONE:
            self.reporter.phase_starts(phase, names.index(phase) + 1, len(names))
            kept = phases[phase](phase)
            release_kept_blocks()  # so that their memory does not add to the peak of the next phase
            give_back_freed()
            # The files of the search are not needed once the refit starts.
            self.state.next_phase(following[phase], kept if _is_refit(phase) or not _is_refit(following[phase]) else {})
        return TrainedModel(
            model=self._model(self.dataset.train if self.refit else fitted),
            metrics=self.state["best"],
            history=self.state["history"],
            best_epoch=self.state["best_epoch"],
            refit=self.refit,
            seconds=self.state["seconds"],
            intervals=self.state["intervals"],
            served_later=self.state["served_later"],
            feature_importance=self.state["feature_importance"],
            processor_seconds=self.state["processor_seconds"],
        )

    def _phases(self, fitted: Sessions, held_out: Sessions) -> dict[str, Phase]:
        """Return the phases in order, by name."""
        all_sessions = self.dataset.train
        fit_all, search = partial(self._fit_all, fitted), partial(self._search, fitted, held_out)
        phases: dict[str, Phase] = {
            "slice": partial(self._fit_before_last, fitted),
            "ranker": partial(self._train_ranker, fitted),
            "search": fit_all if self.config.memory.enabled else search,
            "validate": partial(self._validate, fitted, held_out),
            "slice-refit": partial(self._fit_before_last, all_sessions),
            "ranker-refit": partial(self._train_ranker, all_sessions),
            "refit": partial(self._fit_all, all_sessions),
        }
        return {phase: phases[phase] for phase in phases_of(self.config, self.refit)}

    def _search(self, fitted: Sessions, held_out: Sessions, phase: str) -> Kept:
        validate = self.runner.validator(
            held_out.keep_last(self.config.model.max_session_length + 1), self.dataset.min_prefix, self.type_weights
        )
        self._fitting.fit(
            phase, fitted, self.config.optimizer.epochs, validate=validate, patience=self.config.optimizer.patience
        )
        return {"weights": self.state["best_checkpoint"]}

    def _fit_all(self, sessions: Sessions, phase: str) -> Kept:
        epochs = self.config.optimizer.epochs if self.config.memory.enabled else self.state["best_epoch"]
        self._fitting.fit(phase, sessions, epochs)
        return {**self.state["kept"], "weights": self.state["checkpoint"]}

    def _fit_before_last(self, sessions: Sessions, phase: str) -> Kept:
        earlier, _ = split_for_ranker(self.config, sessions)
        self._fitting.fit(phase, earlier, self.config.optimizer.epochs)
        return {"past": self.state["checkpoint"]}

    def _train_ranker(self, sessions: Sessions, phase: str) -> Kept:
        past = None
        if "past" in self.state["kept"]:
            past = weights_of(self.config, self.dataset.n_items, self.state, "past")
        samples = ranker_samples(
            self.config, sessions, self.dataset.n_items, self.dataset.min_prefix, past, self._files, phase,
            self.reporter, self.type_weights, _side_of(self.dataset, self.config),
        )  # fmt: skip
        ranker, history = fit_samples(samples, self.config, phase, self.reporter)
        name = f"{phase}.safetensors"
        ranker.save(self._files / name)
        self.state.add_history(history)
        return {"ranker": name}

    def _validate(self, fitted: Sessions, held_out: Sessions, phase: str) -> Kept:
        samples, model = Samples.from_sessions(held_out, self.dataset.min_prefix), self._model(fitted)
        done = 0

        def progress(now: int, _total: int) -> None:
            nonlocal done
            self.reporter.step_done(now - done, 0.0)
            done = now

        self.reporter.epoch_starts(phase, 1, 1, len(samples))
        typed = with_types_for(model, samples, self.dataset.type_names)
        ranks = served_ranks(model, typed, progress)
        weights = None if self.type_weights is None else _sample_weights(samples, self.type_weights)
        report = report_of(ranks, samples, weights=weights)
        metrics = report.metrics if weights is None else report.weighted
        intervals = report.intervals if weights is None else report.weighted_intervals
        self.state.save(
            best=dict(metrics),
            best_epoch=self.config.optimizer.epochs,
            intervals={name: list(interval) for name, interval in intervals.items()},
            served_later=served_later_metrics(model, typed),
            feature_importance=feature_importance(model, typed),
        )
        self.state.plot()
        return self.state["kept"]

    def _model(self, sessions: Sessions) -> Model:
        """Return the model that the phases so far have trained on `sessions`, with its memory if enabled."""
        config, dataset = self.config, self.dataset
        memory = ranker_net = trends = context = types = None
        if config.memory.enabled:
            memory = build_tables(config, sessions, dataset.n_items)
            ranker_net = RankerNet.load(self._files / self.state["kept"]["ranker"])
            trends = build_trends(config, sessions, dataset.n_items, dataset.context)
            if trends is not None and dataset.context is not None and sessions.context is not None:
                context = ClickContext(dataset.context, sessions.context)
            types = ranker_net.types.translated(sessions.types, dataset.type_names)
        model = Model.of(
            config=config,
            weights=weights_of(config, dataset.n_items, self.state, "weights"),
            ids=dataset.ids,
            popularity=np.bincount(sessions.items, minlength=dataset.n_items).astype(np.int64),
            memory=memory,
            ranker_net=ranker_net,
            clicked_at=sessions.times if config.memory.enabled else None,
            trends=trends,
            context=context,
            types=types,
            items=dataset.items,
        )
        return with_content(model, self.config.optimizer.seed)


def _sample_weights(samples: Samples, type_weights: np.ndarray) -> np.ndarray:
    """float32[S]: the weights of the samples."""
    assert samples.target_types is not None
    return type_weights[samples.target_types]


def _is_refit(phase: str) -> bool:
    return phase.endswith("refit")
