"""Warm refits after an update: ranker and encoder continue from their weights, on the sessions that came since.

Axes: N items, S sessions, d dimensions.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtaw_fast.config import Config
from mtaw_fast.errors import UsageError
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.model import Model
from mtaw_fast.training.checkpoints import RunFolder
from mtaw_fast.training.encoder.fit_encoder import Fitting, weights_of
from mtaw_fast.training.encoder.runner import Runner
from mtaw_fast.training.progress import Reporter
from mtaw_fast.training.ranker.fit_ranker import fit_ranker
from mtaw_fast.training.ranker.prequential import build_dataset
from mtaw_fast.training.ranker.side_inputs import NOTHING, SideInputs
from mtaw_fast.training.ranker.train_ranker import fit_settings
from mtaw_fast.training.run_state import RunState
from mtaw_fast.training.threads import current_threads

_RATE = 0.25  # of the learning rates of a training from scratch


def refit_ranker(
    model: Model, before: Model, n_new: int, min_prefix: int, folder: Path, reporter: Reporter
) -> tuple[Model, list[dict[str, Any]]]:
    """Continue the ranker's training on the sessions of an update, which neither it nor the encoder has seen.

    model, before: after and before the update. n_new: number of new sessions, the last ones of `model`. min_prefix,
    folder: as in `build_dataset`. Returns the model with the refitted ranker, and a record an epoch.
    Raises TrainingError if no new session gives a sample.
    """
    assert model.memory is not None
    assert model.ranker_net is not None
    refuse_weights(model.config)
    config, sessions = model.config, model.sessions
    first = len(sessions) - n_new
    earlier, new_sessions = sessions.slice(0, first), sessions.slice(first, len(sessions))
    tables = MemoryTables.build(earlier, model.n_items, model.memory.settings, threads=current_threads().pieces)
    weights = None
    if config.memory.dense_candidates:
        # Vectors of items that came since the training follow from their clicks, in `model` also from those to rank.
        embedding = np.zeros_like(model.weights["item_embedding"])
        embedding[: before.n_items] = before.weights["item_embedding"]
        weights = {**model.weights, "item_embedding": embedding}
    trends = None
    if model.trends is not None:
        assert earlier.times is not None
        trends = TrendTables.build(
            earlier, earlier.times, model.n_items, model.trends.settings, once_from=model.memory.settings.once_from,
            context_sizes=model.trends.context_sizes,
        )  # fmt: skip
    side, types = NOTHING, model.click_types
    if trends is not None:
        columns = None if model.context is None else model.context.columns
        side = SideInputs(model.ranker_net.side, columns, model.items)
    side = replace(side, types=types, type_names=types.names)
    dataset = build_dataset(
        config, tables, new_sessions, min_prefix, weights, folder, "ranker", reporter, before.learned_until, trends,
        side=side,
    )  # fmt: skip
    fit = fit_settings(config, timed=trends is not None)
    fit = replace(fit, lr=_RATE * fit.lr)
    ranker, history = fit_ranker(dataset, fit, config.optimizer.seed, "ranker", reporter, start=model.ranker_net)
    return replace(model, ranker_net=ranker), history


def refit_encoder(
    model: Model, min_prefix: int, folder: Path, device: torch.device, reporter: Reporter
) -> tuple[Model, list[dict[str, Any]]]:
    """Train the encoder for one more epoch over all sessions of the model; new items get vectors of their own.

    Items without clicks keep theirs, which their attributes or a caller gave them: a training only moves them away from
    what others click.

    Parameters are those of `refit_ranker`; `folder` has a checkpoint meanwhile.
    """
    refuse_weights(model.config)
    # The training may have asked for a GPU's step or loss, which this device may not have.
    config = model.config.replace(
        epochs=1, lr=_RATE * model.config.optimizer.lr, train_step="auto", loss_backend="auto"
    )  # fmt: skip
    if device.type != "cpu":  # where sampling does not work and is not needed
        config = config.replace(softmax="full")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        state = RunState(RunFolder(Path(scratch)), {}, "refit")
        state.open(resume=False, overwrite=False)
        fitting = Fitting(config, model.n_items, min_prefix, Runner(device), state, reporter)
        fitting.fit("refit", model.sessions.without_times(), config.optimizer.epochs, start=model.weights)
        state.next_phase("done", {"weights": state["checkpoint"]})
        weights, history = weights_of(config, model.n_items, state, "weights"), state["history"]
    progress = model.log_progress
    if progress is not None:
        clicked = model.popularity[progress.untrained] > 0
        progress = replace(progress, untrained=progress.untrained[~clicked])
    arrays = {name: np.array(array) for name, array in weights.items()}
    unclicked = model.popularity == 0
    arrays["item_embedding"][unclicked] = model.weights["item_embedding"][unclicked]
    refitted = model.with_weights(arrays)
    return replace(refitted, log_progress=progress), history


def refuse_weights(config: Config) -> None:
    """Raise UsageError if targets are weighted by type, which a refit does not do."""
    if config.loss.type_weights:
        raise UsageError(
            f"this bundle was trained with weights by type ({config.loss.type_weights}), which a refit does not apply: "
            "update it without --refit, or retrain it"
        )
