"""What a training hands over, and how it becomes a bundle."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.memory import MemoryTables, RankerNet


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """weights: float32 arrays under the bundle's names. memory, ranker: of the session memory, None where the settings
    want none. metrics: on validation, of the chosen epoch. history: a record an epoch. best_epoch: epochs trained.
    refit: whether the weights have seen the validation sessions. seconds: of work, that of a run before it was cut off
    included as far as it was kept."""

    config: Config
    weights: dict[str, np.ndarray]
    memory: MemoryTables | None
    ranker: RankerNet | None
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    best_epoch: int
    refit: bool
    seconds: float

    def record(self) -> dict[str, Any]:
        """The training in plain JSON values, as the bundle's manifest keeps it."""
        return {
            "validation": self.metrics,
            "protocol": f"last {self.config.validation:.1%} of the training sessions held out; "
            + ("epochs as set" if self.config.memory else "epoch chosen by MRR@20"),
            "best_epoch": self.best_epoch,
            "refit": self.refit,
            "seconds": round(self.seconds, 1),
            "history": self.history,
        }

    def save(self, folder: str | os.PathLike[str], dataset: Dataset, overwrite: bool = False) -> Bundle:
        """Write the bundle of a training on `dataset`; see `Bundle.save`."""
        fitted = dataset.train if self.refit else dataset.train.split_last(self.config.validation)[0]
        return Bundle.save(
            folder,
            config=self.config,
            weights=self.weights,
            ids=dataset.ids,
            popularity=np.bincount(fitted.items, minlength=dataset.n_items).astype(np.int64),
            metrics=self.record(),
            dataset={"name": dataset.name, "fingerprint": dataset.fingerprint},
            memory=self.memory,
            ranker=self.ranker,
            overwrite=overwrite,
        )
