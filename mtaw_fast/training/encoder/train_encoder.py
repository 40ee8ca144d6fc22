"""Training an encoder on given sessions and nothing else: no search, no refit, no memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.storage.files import folder_lock
from mtaw_fast.training.checkpoints import RunFolder
from mtaw_fast.training.encoder.fitting import Fitting
from mtaw_fast.training.reporting import Reporter, Silent
from mtaw_fast.training.run_state import RunState

_PHASE = "search"


@dataclass(frozen=True, slots=True, eq=False)
class FittedEncoder:
    """weights: float32 arrays under the bundle's names. history: a record an epoch. seconds: of work."""

    weights: Mapping[str, np.ndarray]
    history: list[dict[str, Any]]
    seconds: float


def fit_encoder(
    config: Config,
    sessions: Sessions,
    n_items: int,
    min_prefix: int,
    folder: Path,
    identity: Mapping[str, Any],
    reporter: Reporter | None = None,
) -> FittedEncoder:
    """What `train` makes of `sessions` in config.epochs epochs, on the CPU.

    folder: keeps the work; what is done there already is not done again. identity: what tells this work from other,
    as JSON values; UsageError where the folder's is another.
    """
    with folder_lock(folder, UsageError):
        state = RunState(RunFolder(folder), identity, _PHASE)
        state.open(resume=True, overwrite=False)
        if state["phase"] == _PHASE:
            device = torch.device("cpu")
            Fitting(config, n_items, min_prefix, device, state, reporter or Silent()).fit(
                _PHASE, sessions, config.optimizer.epochs
            )
            state.next_phase("done", {"weights": state["checkpoint"]})
        return FittedEncoder(weights_of(config, n_items, state, "weights"), state["history"], state["seconds"])


def weights_of(config: Config, n_items: int, state: RunState, kept: str) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint that a phase left, under the bundle's names."""
    model = MTAW(config, n_items)
    state.files.load_checkpoint(state["kept"][kept], model, None)
    return {name: value.detach().cpu().numpy() for name, value in model.named_parameters()}
