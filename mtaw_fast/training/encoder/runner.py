"""Where the model of a fit lives: in this process, or in a group of processes (`training.group`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.encoder.initial_weights import initialize
from mtaw_fast.training.encoder.validation import validation_metrics
from mtaw_fast.training.run_state import RunState
from mtaw_fast.training.steps.choice import make_stepper
from mtaw_fast.training.steps.full_step import AnyStepper

Validate = Callable[[MTAW], Mapping[str, float]]


@dataclass(frozen=True, slots=True, eq=False)
class FitRequest:
    """One `Fitting.fit`: its arguments, and the settings, catalog size and state of the run."""

    config: Config
    n_items: int
    state: RunState
    phase: str
    sessions: Sessions
    epochs: int
    validate: Validate | None = None
    patience: int = 0
    start: Mapping[str, np.ndarray] | None = None


class Runner:
    """Creates, validates and saves the model of a fit: here all of it in this process.

    device: where the model computes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def begin(self, request: FitRequest) -> AnyStepper:
        """Return a stepper whose model has the weights of the state's checkpoint, else `request.start`, else initial
        ones."""
        checkpoint = request.state["checkpoint"]
        model = MTAW(request.config, request.n_items).to(self.device)
        stepper = make_stepper(model, request.config, request.sessions)
        if checkpoint is not None:
            request.state.files.load_checkpoint(checkpoint, model, stepper)
        elif request.start is None:
            initialize(model, request.sessions)
        else:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(torch.from_numpy(np.array(request.start[name])))
        return stepper

    def validator(self, sessions: Sessions, min_prefix: int, type_weights: np.ndarray | None) -> Validate:
        """Return a function that measures a model on the validation sessions. Arguments as for `validation_metrics`."""
        return partial(validation_metrics, sessions=sessions, min_prefix=min_prefix, type_weights=type_weights)

    def save(self, state: RunState, name: str, stepper: AnyStepper, moments: bool) -> None:
        """Write the weights, and with `moments` Adam's moments, to the file `name` of the run folder."""
        state.files.save_checkpoint(name, stepper.model, stepper if moments else None)

    def end_epoch(self) -> None:
        """Do what must follow the state of an epoch: nothing, as no other process waits."""
