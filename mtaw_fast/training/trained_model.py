"""The result of a training: how it becomes a bundle, and its metrics through the path that serves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples
from mtaw_fast.evaluation import Progress, ranks_of
from mtaw_fast.evaluation.metrics import gains_of, means_of
from mtaw_fast.evaluation.served_later import served_later
from mtaw_fast.model.model import Model
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import NativeIndex
from mtaw_fast.training.ranker.prequential import evenly

_AGED = 2000  # samples, on which the age is measured in seconds


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """The result of a training.

    metrics: in percent, on the validation sessions, of the chosen epoch.
    best_epoch: epochs trained.
    refit: whether the weights have seen the validation sessions.
    seconds: training time, including that of an interrupted run up to its last saved epoch.
    intervals: dict of str to [low, high], 95% intervals of the metrics, with a session memory.
    served_later: P@20 on validation samples by how long after the training they come, with times and a memory.
    feature_importance: see `training.ranker.feature_importance`, with a session memory.
    processor_seconds: processor time of each phase, over all threads of the process (the first one of a group). Like
        `seconds`, it includes that of an interrupted run up to its last saved epoch.
    """

    model: Model
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    best_epoch: int
    refit: bool
    seconds: float
    intervals: dict[str, list[float]] | None = None
    served_later: dict[str, float] | None = None
    feature_importance: dict[str, Any] | None = None
    processor_seconds: dict[str, float] | None = None

    def record(self) -> dict[str, Any]:
        """Return the training as plain JSON values for the bundle's manifest."""
        config = self.model.config
        weights = config.loss.type_weights
        return {
            "validation": self.metrics,
            "protocol": f"last {config.optimizer.validation_fraction:.1%} of the training sessions held out; "
            + ("epochs as set" if config.memory.enabled else "epoch chosen by MRR@20")
            + (f"; targets count by type: {weights}" if weights else ""),
            "best_epoch": self.best_epoch,
            "refit": self.refit,
            "seconds": round(self.seconds, 1),
            "history": self.history,
            "validation_intervals": self.intervals,
            "served_later": self.served_later,
            "feature_importance": self.feature_importance,
            "processor_seconds": {name: round(seconds, 1) for name, seconds in (self.processor_seconds or {}).items()},
        }

    def save(self, folder: str | os.PathLike[str], dataset: Dataset, overwrite: bool = False) -> Bundle:
        """Write the bundle of a training on `dataset`; see `Bundle.save`."""
        dataset_record = {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "min_prefix": dataset.min_prefix,
            "reader": dict(dataset.reader),
            "summary": dataset.summary(),
        }
        return Bundle.save(folder, self.model, metrics=self.record(), dataset=dataset_record, overwrite=overwrite)


def with_types_for(model: Model, samples: Samples, type_names: Sequence[str]) -> Samples:
    """Return samples of a data set, whose types have these names, with the types that the model's ranker reads."""
    return samples.with_prefix_types(model.click_types.translated(samples.prefixes.types, type_names))


def served_ranks(model: Model, samples: Samples, progress: Progress | None = None) -> np.ndarray:
    """int32[S]: the ranks (`evaluation.ranks_of`) of the samples' targets that a bundle of the model would give.

    samples: with types, if any, as the ranker reads them.
    """
    index = NativeIndex(model.item_vectors, model.scan)
    pipeline = Pipeline.of(Catalog.of(model, all_items=True), NativeEncoder(model.config, model.weights), index)
    return ranks_of(pipeline, samples, progress=progress)


def served_later_metrics(model: Model, samples: Samples) -> dict[str, float] | None:
    """Return P@20 in percent of samples, as they come and later; None if time changes no ranking.

    samples: as for `served_ranks`; of many, `_AGED` are measured, evenly spread.
    """
    if model.trends is None:
        return None
    chosen = samples.select(np.flatnonzero(evenly(len(samples), _AGED)))
    parts = {"at once": chosen, **served_later(chosen)}
    return {name: round(served_metrics(model, part)["P@20"], 2) for name, part in parts.items()}


def served_metrics(model: Model, samples: Samples) -> dict[str, float]:
    """Return P@K and MRR@K in percent over `samples` that a bundle of the model would have."""
    return means_of(gains_of(served_ranks(model, samples)))
