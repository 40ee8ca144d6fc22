"""Fit an encoder in a group of processes: rank 0 sends each fit to the others, and every process trains its shard."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
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
from mtaw_fast.training.encoder.fit_encoder import Fitting
from mtaw_fast.training.encoder.initial_weights import initialize
from mtaw_fast.training.encoder.runner import FitRequest, Runner, Validate
from mtaw_fast.training.group.checkpoints import load_shards, save_shards
from mtaw_fast.training.group.process_group import ProcessGroup
from mtaw_fast.training.group.shards import Shards
from mtaw_fast.training.group.step import GroupStepper
from mtaw_fast.training.group.validation import group_metrics
from mtaw_fast.training.progress import Silent
from mtaw_fast.training.run_state import RunState
from mtaw_fast.training.steps.full_step import AnyStepper
from mtaw_fast.training.threads import Threads, current_threads, training_threads

_SHARED_STATE = ("epoch", "best_epoch", "best", "checkpoint")
_BACKENDS = ("auto", "triton", "chunked")
_REFUSED = "does not work in a group of processes"


def check_settings(config: Config, n_items: int, world: int) -> None:
    """Raise UsageError if a group cannot train with the settings."""
    if config.optimizer.train_step == "cuda-graph":
        raise UsageError(f"setting train_step=cuda-graph {_REFUSED}; choose auto or eager")
    if config.loss.negative_term:
        raise UsageError(f"setting negative_term=true {_REFUSED}; train without torchrun")
    if config.loss.softmax == "sampled":
        raise UsageError(f"setting softmax=sampled {_REFUSED}; choose auto or full")
    if config.loss.loss_backend not in _BACKENDS:
        raise UsageError(
            f"setting loss_backend={config.loss.loss_backend} {_REFUSED}; choose "
            f"{', '.join(_BACKENDS[:-1])} or {_BACKENDS[-1]}"
        )
    if config.optimizer.batch_prefixes < world:
        raise UsageError(
            f"setting batch_prefixes={config.optimizer.batch_prefixes} is below the {world} processes; raise it or "
            "start fewer"
        )
    if n_items < world:
        raise UsageError(f"a catalog of {n_items} items is too small for {world} processes; start fewer")


class GroupRunner(Runner):
    """Trains this process's shard of the model; see `encoder.runner.Runner`.

    `Fitting.fit` runs in rank 0, and in the other processes through `follow_fit`. Raises UsageError if a group cannot
    train with the settings.
    """

    def __init__(self, config: Config, n_items: int, process_group: ProcessGroup) -> None:
        check_settings(config, n_items, process_group.world)
        super().__init__(process_group.device)
        self._group, self._shards = process_group, Shards(n_items, process_group.world)

    def begin(self, request: FitRequest) -> AnyStepper:
        """See `Runner.begin`. Rank 0 sends the request to the others and draws the initial weights."""
        assert request.start is None
        process_group, shards, files = self._group, self._shards, request.state.files
        if process_group.leads:
            process_group.channel.send(_message(request))
        rows = shards.rows(process_group.rank)
        model = MTAW(request.config, rows.stop - rows.start).to(self.device)
        stepper = GroupStepper(model, request.config, shards, process_group)
        if request.state["checkpoint"] is not None:
            load_shards(files.folder / request.state["checkpoint"], model, stepper, shards, process_group)
            return stepper
        name = f"checkpoint-{request.phase}-0.safetensors"  # no state names it, so a left-over one is removed
        if process_group.leads:
            full_model = MTAW(request.config, request.n_items)
            initialize(full_model, request.sessions)
            files.save_checkpoint(name, full_model, None)
            del full_model
        process_group.channel.gather()
        load_shards(files.folder / name, model, None, shards, process_group)
        process_group.channel.gather()
        if process_group.leads:
            (files.folder / name).unlink()
        return stepper

    def validator(self, sessions: Sessions, min_prefix: int, type_weights: np.ndarray | None) -> Validate:
        """See `Runner.validator`. The result is the same in every process."""
        return partial(
            group_metrics, shards=self._shards, process_group=self._group, sessions=sessions, min_prefix=min_prefix,
            type_weights=type_weights,
        )  # fmt: skip

    def save(self, state: RunState, name: str, stepper: AnyStepper, moments: bool) -> None:
        """See `Runner.save`. Every process writes its rows."""
        saved = cast(GroupStepper, stepper) if moments else None
        save_shards(state.files.folder / name, stepper.model, saved, self._shards, self._group)

    def end_epoch(self) -> None:
        """Wait until rank 0 has written the state."""
        self._group.channel.gather()


def _message(request: FitRequest) -> dict[str, Any]:
    """Return a request of rank 0 as JSON values, which `follow_fit` reads."""
    return {
        "do": "fit",
        "config": request.config.as_dict(),
        "folder": str(request.state.files.folder.absolute()),
        "phase": request.phase,
        "sessions": len(request.sessions),
        "clicks": request.sessions.n_clicks,
        "epochs": request.epochs,
        "validates": request.validate is not None,
        "patience": request.patience,
        "encoder_threads": current_threads().encoder,
        "state": {name: request.state[name] for name in _SHARED_STATE},
    }


def follow_fit(message: Mapping[str, Any], dataset: Dataset, process_group: ProcessGroup) -> None:
    """Take part in the fit that rank 0's message describes."""
    config = Config.from_dict(message["config"])
    sessions = dataset.train.slice(0, min(message["sessions"], len(dataset.train)))
    if (len(sessions), sessions.n_clicks) != (message["sessions"], message["clicks"]):
        raise TrainingError(
            f"the data set here has {sessions.n_clicks} clicks, that of rank 0 has {message['clicks']}; give every "
            "machine the same one"
        )
    weights = by_code(config.loss.type_weights, dataset.type_names, "setting type_weights")
    state = RunState.following(RunFolder(Path(message["folder"])), message["state"])
    runner = GroupRunner(config, dataset.n_items, process_group)
    validate = None
    if message["validates"]:
        _, held_out = dataset.train.split_last(config.optimizer.validation_fraction)
        validate = runner.validator(
            held_out.keep_last(config.model.max_session_length + 1), dataset.min_prefix, weights
        )
    fitting = Fitting(config, dataset.n_items, dataset.min_prefix, runner, state, Silent(), weights)
    with training_threads(Threads(1, message["encoder_threads"])):
        fitting.fit(message["phase"], sessions, message["epochs"], validate, message["patience"])
