"""Screens of a session memory: all settings that do not change the encoders share them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench.quality.records import changed_settings
from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.model.model import Model
from mtaw_fast.training import TrainedModel
from mtaw_fast.training.encoder.fitting import FittedEncoder, fit_encoder
from mtaw_fast.training.memory_tables import build_tables
from mtaw_fast.training.ranker.candidates import PrefixCandidates
from mtaw_fast.training.ranker.train_ranker import fit_candidates
from mtaw_fast.training.reporting import Reporter
from mtaw_fast.training.served_metrics import served_metrics

# Settings that shape the tables, the candidates and the ranker but not the encoder, by the names that records use.
_NOT_THE_ENCODER = {
    "memory", "window", "span", "recency", "max_neighbours", "max_postings", "near_candidates", "dense_candidates",
    "ranker_slice", "ranker_epochs", "ranker_lr", "leave_out", "patience",
}  # fmt: skip

_FIT = {"excluded_features": "", "ranker_epochs": 1, "ranker_lr": 1.0}  # settings of the ranker's fit alone, made equal


def train_without_refit(dataset: Dataset, config: Config, work: Path, reporter: Reporter) -> TrainedModel:
    """Return what `train(refit=False)` makes of settings with a memory, with the encoders that `work` already has."""
    known, held_out = dataset.train.split_last(config.optimizer.validation_fraction)
    past = None
    if config.memory.dense_candidates:
        past = encoder_of(dataset, config, known.split_last(config.ranker.ranker_fraction)[0], work, reporter)
    whole = encoder_of(dataset, config, known, work, reporter)
    began = time.perf_counter()
    candidates = _candidates(dataset, config, known, past and past.weights)
    ranker, history = fit_candidates(candidates, config, "ranker", reporter)
    model = Model.of(
        config=config,
        weights=dict(whole.weights),
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
        history=[*([] if past is None else past.history), *history, *whole.history],
        best_epoch=config.optimizer.epochs,
        refit=False,
        seconds=seconds + whole.seconds + (0.0 if past is None else past.seconds),
    )


# Rows that differ in the ranker's fit alone, such as those of single features, share the candidates of the last row.
_latest: tuple[object, PrefixCandidates] | None = None


def _candidates(
    dataset: Dataset, config: Config, known: Sessions, weights: Mapping[str, np.ndarray] | None
) -> PrefixCandidates:
    global _latest
    key = dataset.fingerprint, config.replace(**_FIT)
    if _latest is None or _latest[0] != key:
        _latest = None  # two at a time would take the memory of both
        made = PrefixCandidates.of(config, known, dataset.n_items, dataset.min_prefix, weights)
        _latest = key, made
    return _latest[1]


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
