"""A whole training, phase by phase (`mtaw_fast.config.phases`), each taken up where a run was cut off."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from mtaw_fast.config import Config
from mtaw_fast.config.phases import phases_of
from mtaw_fast.config.type_weights import by_code
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation import report_of
from mtaw_fast.kernels.native.loss import release_kept_blocks
from mtaw_fast.memory import RankerNet
from mtaw_fast.model.model import Model
from mtaw_fast.storage.files import folder_lock
from mtaw_fast.system.memory_use import give_back_freed
from mtaw_fast.training.checkpoints import RunFolder
from mtaw_fast.training.encoder.batch import typed
from mtaw_fast.training.encoder.fitting import Fitting
from mtaw_fast.training.encoder.train_encoder import weights_of
from mtaw_fast.training.encoder.validation import check_held_out, validation_metrics
from mtaw_fast.training.plan.estimate import plan_training
from mtaw_fast.training.plan.plan import BUDGET_MINUTES, Plan
from mtaw_fast.training.plan.table_memory import TableMemory, training_table_memory
from mtaw_fast.training.plan.threads import Threads, training_threads
from mtaw_fast.training.ranker.feature_importance import feature_importance
from mtaw_fast.training.ranker.fraction import build_tables, build_trends, fit_on_slice, fit_settings
from mtaw_fast.training.reporting import Reporter, Silent
from mtaw_fast.training.run_state import RunState
from mtaw_fast.training.served_metrics import served_ranks
from mtaw_fast.training.trained_model import TrainedModel

Kept = Mapping[str, str]  # files that the run still needs: past, weights, ranker
Phase = Callable[[str], Kept]  # by its name

_DONE = "done"


class TrainingGroup(Protocol):
    """Processes that train one model (`training.group`), as the one that leads them sees them."""

    device: torch.device

    def fitting(
        self,
        config: Config,
        dataset: Dataset,
        state: RunState,
        reporter: Reporter,
        type_weights: np.ndarray | None,
    ) -> Fitting: ...

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
    """Train MTAW on `dataset`, keeping state and checkpoints in the run folder `folder`.

    The last `config.validation` of the sessions choose the epoch (with a session memory they only score it); with
    `refit` new models are then trained on all sessions for that many epochs under the same schedule. With `resume` a
    run that was cut off goes on after its last whole epoch, with the same bits on a CPU as if it had not been.

    threads: of the loss and the session memory, by default what this process may keep busy; the same bits for every
    number. encoder_threads: PyTorch's in a step; more than 1 pays on a machine of its own (`training.plan.threads`).
    table_memory: bytes for building the session memory's tables (`training.plan.table_memory`), with the same bits.
    group: processes that take part in every phase of an encoder, each on its own device; this one leads them.
    budget_minutes: what the training may take with the full softmax where the plan chooses (`training.plan.plan`).
    planned: called with the plan before anything is trained; by default it goes to the log.
    plan: a new run's softmax by a plan that was made before: nothing is measured, told or logged.

    Raises UsageError where the folder holds another run, TrainingError on a non-finite loss.
    """
    chosen_device = device_of(device) if group is None else group.device
    chosen_threads = Threads.of(threads, encoder_threads)
    if config.memory.enabled:
        fit_settings(
            config, timed=config.memory.trends and config.ranker.prequential and dataset.train.times is not None
        )  # a slip in them is told now, not after the first phase
    bound = TableMemory(table_memory, folder)
    with folder_lock(folder, UsageError), training_threads(chosen_threads), training_table_memory(bound):
        run = _Run(dataset, config, RunFolder(folder), refit, chosen_device, reporter or Silent(), group)
        run.state.open(resume, overwrite)
        if plan is not None:
            run.keep(plan)
        elif group is None:
            (planned or log_plan)(run.settle(budget_minutes))
        else:
            run.settle_for_group()
            group.mark(folder)
        return run.finish()


def log_plan(plan: Plan) -> None:
    """The plan's lines in the log `mtaw_fast`: a warning where the settings leave the choice open and it samples."""
    say = logging.getLogger("mtaw_fast").log
    for line in plan.lines():
        say(logging.WARNING if plan.samples_by_rule else logging.INFO, line)


def device_of(name: str) -> torch.device:
    """The device of that name, or the best one for auto. Raises UsageError where it cannot be used."""
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


class _Run:
    def __init__(
        self,
        dataset: Dataset,
        config: Config,
        files: RunFolder,
        refit: bool,
        device: torch.device,
        reporter: Reporter,
        group: TrainingGroup | None,
    ) -> None:
        self._dataset, self._config, self._files = dataset, config, files
        self._refit, self._reporter = refit, reporter
        check_held_out(dataset, config)
        self._fitted, self._held_out = dataset.train.split_last(config.optimizer.validation_fraction)
        identity = {
            "config": config.as_dict(),
            "dataset": dataset.fingerprint,
            "min_prefix": dataset.min_prefix,
            "refit": refit,
        }
        self._type_weights = self._weights_of_types()
        self._phases = self._named_phases()
        self.state = RunState(files, identity, next(iter(self._phases)))
        self._fitting = (
            Fitting(config, dataset.n_items, dataset.min_prefix, device, self.state, reporter, self._type_weights)
            if group is None
            else group.fitting(config, dataset, self.state, reporter, self._type_weights)
        )

    def settle(self, budget_minutes: float) -> Plan:
        """The plan of this run, made now or when it began, whose settings hold from here."""
        kept = self.state["plan"]
        if kept is not None:
            plan = Plan.from_dict(kept)
        else:
            by_group = bool(self.state["history"])  # which plans nothing, and has the full softmax
            plan = plan_training(
                self._dataset, self._config.replace(softmax="full") if by_group else self._config, refit=self._refit,
                device=self._fitting.device, budget_minutes=budget_minutes, folder=self._files.folder,
            )  # fmt: skip
            plan = replace(plan, why="as the run began") if by_group else plan
            release_kept_blocks()  # a trial of the full softmax may have been the largest there is
        self.keep(plan)
        return plan

    def keep(self, plan: Plan) -> None:
        """Hold this run to a plan, also when it is resumed."""
        self.state.settle(plan.as_dict())
        self._take(plan.settle(self._config))

    def settle_for_group(self) -> None:
        """What a group of processes has in place of a plan: the full softmax. UsageError where this run samples."""
        kept = self.state["plan"]
        if kept is not None and kept["softmax"] == "sampled":
            raise UsageError(
                f"{self._files.folder} holds a training with the sampled softmax, which a group of processes cannot "
                "have; resume it without torchrun, or start anew with --overwrite"
            )
        self._take(self._config.replace(softmax="full"))

    def _take(self, config: Config) -> None:
        self._config = config
        self._fitting = replace(self._fitting, config=config)

    def _weights_of_types(self) -> np.ndarray | None:
        """What targets count by type; UsageError where the settings ask for what the data set cannot give."""
        weights = by_code(self._config.loss.type_weights, self._dataset.type_names, "setting type_weights")
        if weights is not None:
            typed(self._dataset.train)  # names of types without types are refused here
            held_out = Samples.from_sessions(self._held_out, self._dataset.min_prefix)
            if not _sample_weights(held_out, weights).any():
                raise UsageError(
                    "setting type_weights: no target of the validation sessions counts, so nothing can be judged; give "
                    "more of the types a weight, or hold more sessions out (--set validation=0.1)"
                )
        return weights

    def _named_phases(self) -> dict[str, Phase]:
        """The phases in order, by name."""
        whole = self._dataset.train
        known: dict[str, Phase] = {
            "slice": partial(self._fit_before_slice, self._fitted),
            "ranker": partial(self._fit_ranker, self._fitted),
            "search": partial(self._fit_all, self._fitted) if self._config.memory.enabled else self._search,
            "validate": self._validate,
            "slice-refit": partial(self._fit_before_slice, whole),
            "ranker-refit": partial(self._fit_ranker, whole),
            "refit": partial(self._fit_all, whole),
        }
        return {phase: known[phase] for phase in phases_of(self._config, self._refit)}

    def finish(self) -> TrainedModel:
        """Run every phase that is left."""
        phases = list(self._phases)
        following = dict(zip(phases, [*phases[1:], _DONE], strict=True))
        while (phase := self.state["phase"]) != _DONE:
            self._reporter.phase_starts(phase, phases.index(phase) + 1, len(phases))
            kept = self._phases[phase](phase)
            release_kept_blocks()  # else a phase's peak stands on what the one before it has left
            give_back_freed()
            # What the search leaves has served its purpose once the refit begins.
            self.state.next_phase(following[phase], kept if _is_refit(phase) or not _is_refit(following[phase]) else {})
        return TrainedModel(
            model=self._model(self._dataset.train if self._refit else self._fitted),
            metrics=self.state["best"],
            history=self.state["history"],
            best_epoch=self.state["best_epoch"],
            refit=self._refit,
            seconds=self.state["seconds"],
            intervals=self.state["intervals"],
            feature_importance=self.state["feature_importance"],
        )

    def _search(self, phase: str) -> Kept:
        judged = self._held_out.keep_last(self._config.model.max_session_length + 1)
        self._fitting.fit(
            phase,
            self._fitted,
            self._config.optimizer.epochs,
            judge=lambda model: validation_metrics(model, judged, self._dataset.min_prefix, self._type_weights),
            patience=self._config.optimizer.patience,
        )
        return {"weights": self.state["best_checkpoint"]}

    def _fit_all(self, sessions: Sessions, phase: str) -> Kept:
        epochs = self._config.optimizer.epochs if self._config.memory.enabled else self.state["best_epoch"]
        self._fitting.fit(phase, sessions, epochs)
        return {**self.state["kept"], "weights": self.state["checkpoint"]}

    def _fit_before_slice(self, sessions: Sessions, phase: str) -> Kept:
        before, _ = sessions.split_last(self._config.ranker.ranker_fraction)
        self._fitting.fit(phase, before, self._config.optimizer.epochs)
        return {"past": self.state["checkpoint"]}

    def _fit_ranker(self, sessions: Sessions, phase: str) -> Kept:
        n_items, min_prefix = self._dataset.n_items, self._dataset.min_prefix
        past = self._weights("past") if "past" in self.state["kept"] else None
        ranker, history = fit_on_slice(
            self._config, sessions, n_items, min_prefix, past, self._files.folder, phase, self._reporter,
            self._type_weights,
        )  # fmt: skip
        name = f"{phase}.safetensors"
        ranker.save(self._files.folder / name)
        self.state.note(history)
        return {"ranker": name}

    def _validate(self, phase: str) -> Kept:
        samples, model = Samples.from_sessions(self._held_out, self._dataset.min_prefix), self._model(self._fitted)
        done = 0

        def told(now: int, _total: int) -> None:
            nonlocal done
            self._reporter.step_done(now - done, 0.0)
            done = now

        self._reporter.epoch_starts(phase, 1, 1, len(samples))
        ranks = served_ranks(model, samples, told)
        weights = None if self._type_weights is None else _sample_weights(samples, self._type_weights)
        report = report_of(ranks, samples, weights=weights)
        metrics, intervals = report.metrics, report.intervals
        if weights is not None:
            metrics, intervals = report.weighted, report.weighted_intervals
        self.state.save(
            best=dict(metrics),
            best_epoch=self._config.optimizer.epochs,
            intervals={name: list(interval) for name, interval in intervals.items()},
            feature_importance=feature_importance(model, samples),
        )
        self.state.plot()
        return self.state["kept"]

    def _model(self, sessions: Sessions) -> Model:
        """What the phases so far have trained on `sessions`, with the memory of them where the settings want one."""
        config, dataset, memory, ranker_net = self._config, self._dataset, None, None
        if config.memory.enabled:
            memory = build_tables(config, sessions, dataset.n_items)
            ranker_net = RankerNet.load(self._files.folder / self.state["kept"]["ranker"])
        return Model.of(
            config=config,
            weights=self._weights("weights"),
            ids=dataset.ids,
            popularity=np.bincount(sessions.items, minlength=dataset.n_items).astype(np.int64),
            memory=memory,
            ranker_net=ranker_net,
            clicked_at=sessions.times if config.memory.enabled else None,
            trends=build_trends(config, sessions, dataset.n_items) if config.memory.enabled else None,
        )

    def _weights(self, kept: str) -> dict[str, np.ndarray]:
        return weights_of(self._config, self._dataset.n_items, self.state, kept)


def _sample_weights(samples: Samples, type_weights: np.ndarray) -> np.ndarray:
    """float32[S]: what the samples count."""
    assert samples.target_types is not None
    return type_weights[samples.target_types]


def _is_refit(phase: str) -> bool:
    return phase.endswith("refit")
