"""Reuse trainings: the encoders of a screen, and the refit of a run of the published protocol.

Settings that do not change the encoders share them. A run of the published protocol trains on all training sessions
under the settings' own schedule; after the epoch that validation chose it is, to the bit, the model that `train` would
refit. So it keeps the weights of that epoch (of every epoch until there is a validation record of the same settings and
seed), and the finalist uses them: two protocols cost one training.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.quality import records
from bench.quality.records import HELD_OUT, PUBLISHED, Finalist, Folders, changed_settings
from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.memory import RankerNet
from mtaw_fast.model.model import Model
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors
from mtaw_fast.training import TrainedModel
from mtaw_fast.training.checkpoints import RunFolder
from mtaw_fast.training.encoder.fitting import FittedEncoder, fit_encoder
from mtaw_fast.training.memory_tables import build_tables
from mtaw_fast.training.ranker.train_ranker import RankerSamples, fit_samples, ranker_samples
from mtaw_fast.training.reporting import Reporter
from mtaw_fast.training.trained_model import served_metrics

# Settings that shape the tables, the candidates and the ranker but not the encoder, by the names that records use.
_NOT_THE_ENCODER = {
    "memory", "window", "span", "recency", "max_neighbours", "max_postings", "near_candidates",  # prose: ignore
    "dense_candidates", "ranker_slice", "ranker_epochs", "ranker_lr", "leave_out", "patience",
}  # fmt: skip

_FIT = {"excluded_features": "", "ranker_epochs": 1, "ranker_lr": 1.0}  # settings of the ranker's fit alone, made equal


def shared_refit(finalist: Finalist, dataset: Dataset, folders: Folders) -> TrainedModel | None:
    """Return what `train` would make of the finalist, from a validation record and a published run, or None."""
    if finalist.split != "test" or finalist.protocol != HELD_OUT or finalist.config.memory.enabled:
        return None
    training = chosen_by_validation(finalist, dataset, folders)
    if training is None:
        return None
    epoch, folder = training["best_epoch"], work_folder(replace(finalist, protocol=PUBLISHED), folders)
    weights, state = _weights_file(folder, epoch), RunFolder(folder / "run").load_state()
    if state is None or not weights.exists():
        return None
    refit = [{name: value for name, value in line.items() if name != "test" and "@" not in name}
             for line in state["history"][:epoch]]  # fmt: skip
    return TrainedModel(
        model=model_of(finalist, dataset, map_tensors(weights)),
        metrics=training["validation"],
        history=[*training["history"], *refit],
        best_epoch=epoch,
        refit=True,
        seconds=training["seconds"] + sum(line["seconds"] for line in refit),
    )


def chosen_by_validation(finalist: Finalist, dataset: Dataset, folders: Folders) -> dict[str, Any] | None:
    """Return the part "training" of the validation record of the finalist's settings and seed, or None."""
    validation_run = replace(finalist, split="validation", protocol=HELD_OUT)
    record = records.load(folders.entry(validation_run.name), validation_run, dataset.fingerprint)
    return None if record is None else record.get("training")


def keep(weights: Mapping[str, np.ndarray], epoch: int, chosen: int | None, folder: Path) -> None:
    """Save weights after `epoch` for `shared_refit`. chosen: the only epoch to keep, if known."""
    if chosen in (None, epoch):
        write_tensors(_weights_file(folder, epoch), weights)
    if chosen is not None:
        for path in folder.glob("epoch-*.safetensors"):
            if path != _weights_file(folder, chosen):
                path.unlink()


def work_folder(finalist: Finalist, folders: Folders) -> Path:
    """Return the folder of the finalist's running training."""
    return folders.work / finalist.name


def model_of(finalist: Finalist, dataset: Dataset, weights: Mapping[str, np.ndarray]) -> Model:
    """Return the model without a memory from weights trained on all training sessions."""
    popularity = np.bincount(dataset.train.items, minlength=dataset.n_items).astype(np.int64)
    return Model.of(config=finalist.config, weights=weights, ids=dataset.ids, popularity=popularity)


def _weights_file(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch}.safetensors"


def refuse_times(dataset: Dataset) -> None:
    """Raise UsageError for click times: the models that the benches put together themselves have no trends."""
    if dataset.train.times is not None:
        raise UsageError(f"{dataset.name} has click times: models without refit are measured on sets without times")


def train_without_refit(dataset: Dataset, config: Config, work: Path, reporter: Reporter) -> TrainedModel:
    """Return what `train(refit=False)` makes of settings with a memory, with the encoders that `work` already has."""
    refuse_times(dataset)
    known, held_out = dataset.train.split_last(config.optimizer.validation_fraction)
    past_encoder = None
    if config.memory.dense_candidates:
        past_encoder = encoder_of(dataset, config, known.split_last(config.ranker.ranker_fraction)[0], work, reporter)
    whole_encoder = encoder_of(dataset, config, known, work, reporter)
    began = time.perf_counter()
    past_weights = None if past_encoder is None else past_encoder.weights
    ranker, history = ranker_of(dataset, config, known, past_weights, work, reporter)
    model = Model.of(
        config=config,
        weights=dict(whole_encoder.weights),
        ids=dataset.ids,
        popularity=np.bincount(known.items, minlength=dataset.n_items).astype(np.int64),
        memory=build_tables(config, known, dataset.n_items),
        ranker_net=ranker,
    )
    metrics = served_metrics(model, Samples.from_sessions(held_out, dataset.min_prefix))
    seconds = time.perf_counter() - began
    return TrainedModel(
        model=model,
        metrics=metrics,
        history=[*([] if past_encoder is None else past_encoder.history), *history, *whole_encoder.history],
        best_epoch=config.optimizer.epochs,
        refit=False,
        seconds=seconds + whole_encoder.seconds + (0.0 if past_encoder is None else past_encoder.seconds),
    )


# Rows that differ in the ranker's fit alone, such as those of single features, share the samples of the last row.
_latest: tuple[object, RankerSamples] | None = None


def ranker_of(
    dataset: Dataset,
    config: Config,
    sessions: Sessions,
    weights: Mapping[str, np.ndarray] | None,
    work: Path,
    reporter: Reporter,
) -> tuple[RankerNet, list[dict[str, Any]]]:
    """Return the ranker that a training makes of `sessions`, and its history, by the latest samples if they suit.

    weights: those of the encoder that was trained on the sessions before the ranker's; None without dense candidates.
    """
    global _latest
    key = dataset.fingerprint, len(sessions), config.replace(**_FIT)
    if _latest is None or _latest[0] != key:
        _latest = None  # two at a time would take the memory and disk of both
        samples = ranker_samples(
            config, sessions, dataset.n_items, dataset.min_prefix, weights, work, "ranker", reporter
        )  # fmt: skip
        _latest = key, samples
    return fit_samples(_latest[1], config, "ranker", reporter)


def encoder_of(dataset: Dataset, config: Config, sessions: Sessions, work: Path, reporter: Reporter) -> FittedEncoder:
    """Return the encoder of `sessions` by the settings, from `work` if it is there."""
    settings = {
        name: value for name, value in changed_settings(config, Config()).items() if name not in _NOT_THE_ENCODER
    }
    identity = {
        "settings": settings,
        "seed": config.optimizer.seed,
        "data": dataset.fingerprint,
        "sessions": len(sessions),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    folder = work / "encoders" / f"{dataset.name}-{digest}"
    return fit_encoder(config, sessions, dataset.n_items, dataset.min_prefix, folder, identity, reporter)
