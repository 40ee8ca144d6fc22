"""Fitting by a group: the epochs of `training.encoder.fitting`, of a model whose item table is in shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.config.type_weights import by_code
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import TrainingError, UsageError
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.checkpoints import RunFolder
from mtaw_fast.training.encoder.fitting import Fitting
from mtaw_fast.training.encoder.initial_weights import initialize
from mtaw_fast.training.group.checkpoints import load_shards, save_shards
from mtaw_fast.training.group.process_group import ProcessGroup
from mtaw_fast.training.group.shards import Shards
from mtaw_fast.training.group.step import GroupStepper
from mtaw_fast.training.group.validation import group_metrics
from mtaw_fast.training.plan.threads import Threads, current_threads, training_threads
from mtaw_fast.training.reporting import Reporter, Silent
from mtaw_fast.training.run_state import RunState
from mtaw_fast.training.steps.full_step import AnyStepper

_SHARED_STATE = ("epoch", "best_epoch", "best", "checkpoint")
_BACKENDS = ("auto", "triton", "chunked")


def check_settings(config: Config, n_items: int, world: int) -> None:
    """Raise UsageError where a group cannot do what the settings say."""
    if config.optimizer.train_step == "cuda-graph":
        raise UsageError("setting train_step=cuda-graph cannot be had in a group of processes; choose auto or eager")
    if config.loss.negative_term:
        raise UsageError(
            "setting negatives=true cannot be had in a group of processes; train with one, without torchrun"
        )
    if config.loss.softmax == "sampled":
        raise UsageError("setting softmax=sampled cannot be had in a group of processes, which shares the full one out")
    if config.loss.loss_backend not in _BACKENDS:
        raise UsageError(
            f"setting loss_backend={config.loss.loss_backend} cannot be had in a group of processes; choose "
            f"{', '.join(_BACKENDS[:-1])} or {_BACKENDS[-1]}"
        )
    if config.optimizer.batch_prefixes < world:
        raise UsageError(
            f"setting batch_prefixes={config.optimizer.batch_prefixes} cannot be divided among {world} processes; raise it or "
            "start fewer"
        )
    if n_items < world:
        raise UsageError(f"a catalog of {n_items} items cannot be divided among {world} processes; start fewer")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFitting(Fitting):
    """What each process fits with; `fit` is called in rank 0, and in the others by `follow_fit`.

    judged: the validation sessions, as far as they are looked at.
    """

    process_group: ProcessGroup
    judged: Sessions

    def fit(
        self,
        phase: str,
        sessions: Sessions,
        epochs: int,
        judge: Callable[[MTAW], dict[str, float]] | None = None,
        patience: int = 0,
        start: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """As `Fitting.fit` in all processes at once. `judge` says that metrics are wanted; the group has its own."""
        assert start is None
        if self.process_group.leads:
            order = {
                "do": "fit",
                "config": self.config.as_dict(),
                "folder": str(self.state.files.folder.absolute()),
                "phase": phase,
                "sessions": len(sessions),
                "clicks": sessions.n_clicks,
                "epochs": epochs,
                "judged": judge is not None,
                "patience": patience,
                "encoder_threads": current_threads().encoder,
                "state": {name: self.state[name] for name in _SHARED_STATE},
            }
            self.process_group.channel.say(order)
        Fitting.fit(self, phase, sessions, epochs, judge, patience)

    def _begin(self, phase: str, sessions: Sessions, start: Mapping[str, np.ndarray] | None) -> AnyStepper:
        del start
        process_group, shards, files = self.process_group, self._shards, self.state.files
        rows = shards.rows(process_group.rank)
        model = MTAW(self.config, rows.stop - rows.start).to(self.device)
        stepper = GroupStepper(model, self.config, shards, process_group)
        if self.state["checkpoint"] is not None:
            load_shards(files.folder / self.state["checkpoint"], model, stepper, shards, process_group)
            return stepper
        name = f"checkpoint-{phase}-0.safetensors"  # no state names it: where it is left behind, it is swept
        if process_group.leads:
            whole = MTAW(self.config, self.n_items)
            initialize(whole, sessions)
            files.save_checkpoint(name, whole, None)
            del whole
        process_group.channel.settle()
        load_shards(files.folder / name, model, None, shards, process_group)
        process_group.channel.settle()
        if process_group.leads:
            (files.folder / name).unlink()
        return stepper

    def _judged(self, stepper: AnyStepper, judge: Callable[[MTAW], dict[str, float]]) -> dict[str, float]:
        del judge
        return group_metrics(
            stepper.model, self._shards, self.process_group, self.judged, self.min_prefix, self.type_weights
        )

    def _save(self, name: str, stepper: AnyStepper, moments: bool) -> None:
        held = cast(GroupStepper, stepper)
        path = self.state.files.folder / name
        save_shards(path, stepper.model, held if moments else None, self._shards, self.process_group)

    def _close(self, phase: str, epoch: int, record: dict[str, Any], stepper: AnyStepper, judged: bool) -> None:
        Fitting._close(self, phase, epoch, record, stepper, judged)
        self.process_group.channel.settle()  # rank 0 has also drawn the curves

    @property
    def _shards(self) -> Shards:
        return Shards(self.n_items, self.process_group.world)


def fitting_of(
    config: Config,
    dataset: Dataset,
    process_group: ProcessGroup,
    state: RunState,
    reporter: Reporter,
    type_weights: np.ndarray | None,
) -> GroupFitting:
    """What this process fits with; UsageError where a group cannot do what the settings say."""
    check_settings(config, dataset.n_items, process_group.world)
    _, held_out = dataset.train.split_last(config.optimizer.validation_fraction)
    return GroupFitting(
        config, dataset.n_items, dataset.min_prefix, process_group.device, state, reporter, type_weights, process_group=process_group,
        judged=held_out.keep_last(config.model.max_session_length + 1),
    )  # fmt: skip


def follow_fit(order: Mapping[str, Any], dataset: Dataset, process_group: ProcessGroup) -> None:
    """Do what rank 0 has begun: the fit that `order` describes."""
    config = Config.from_dict(order["config"])
    sessions = dataset.train.slice(0, min(order["sessions"], len(dataset.train)))
    if (len(sessions), sessions.n_clicks) != (order["sessions"], order["clicks"]):
        raise TrainingError(
            f"the data set here has {sessions.n_clicks} clicks where rank 0's has {order['clicks']}; give every "
            "machine the same"
        )
    weights = by_code(config.loss.type_weights, dataset.type_names, "setting type_weights")
    state = _Followed(Path(order["folder"]), order["state"])
    fitting = fitting_of(config, dataset, process_group, state, Silent(), weights)
    judge = _unused if order["judged"] else None
    with training_threads(Threads(1, order["encoder_threads"])):
        fitting.fit(order["phase"], sessions, order["epochs"], judge, order["patience"])


class _Followed(RunState):
    """Rank 0's state, changed here as it is there, and written there alone."""

    def __init__(self, folder: Path, values: Mapping[str, Any]) -> None:
        super().__init__(RunFolder(folder), {}, "")
        self._values = {"history": [], **values}

    def save(self, **changes: Any) -> None:
        self._values |= changes

    def plot(self) -> None: ...


def _unused(model: MTAW) -> dict[str, float]:
    raise NotImplementedError
