"""The batches of an epoch, by `optimizer.batches`: whole sessions, or shuffled prefixes."""

from __future__ import annotations

import numpy as np
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.training.steps.batch import Batch, epoch_batches, is_target, prefix_batches, sample_counts


class EpochBatches:
    """Cuts the samples of sessions into new batches for every epoch.

    'sessions': a batch holds whole sessions of like length, and one pass over a session gives all its samples.
    'prefixes': all samples are shuffled, and each is a pass of its own over its prefix, as in the published code.

    sessions: each with a sample. min_prefix: clicks of the shortest prefix that is a sample. type_weights: float32[K],
    weight of a sample by the type of its target. units: what an epoch consists of: sessions or samples. A batch is an
    array of their numbers.
    """

    def __init__(
        self, config: Config, sessions: Sessions, min_prefix: int, type_weights: np.ndarray | None = None
    ) -> None:
        self._config, self._sessions, self._min_prefix, self._type_weights = config, sessions, min_prefix, type_weights
        self._targets: np.ndarray | None = None  # int64[S], indices of the samples' targets among the clicks
        if config.optimizer.batches == "prefixes":
            self._targets = np.flatnonzero(is_target(sessions, min_prefix, config.loss.targets, type_weights))
            self.units = len(self._targets)
        else:
            self._counts = sample_counts(sessions, min_prefix, config.loss.targets, type_weights)
            self.units = len(sessions)

    def cut(self, epoch: int) -> list[np.ndarray]:
        """Return the batches of an epoch, fixed by the seed and the epoch: int64 numbers of units, an array each."""
        settings = self._config.optimizer
        if self._targets is not None:
            return prefix_batches(self.units, settings.batch_prefixes, settings.seed, epoch)
        return epoch_batches(self._counts, settings.batch_prefixes, settings.seed, epoch)

    def batch(self, numbers: np.ndarray, device: torch.device) -> Batch:
        """Return the units of these numbers as the input of a step."""
        counted = self._config.loss.targets
        if self._targets is None:
            return Batch.of(self._sessions.select(numbers), self._min_prefix, device, counted, self._type_weights)
        prefixes = self._sessions.up_to(self._targets[numbers])
        return Batch.of(prefixes, self._min_prefix, device, counted, self._type_weights, only_last=True)

    def sessions_of(self, numbers: np.ndarray) -> np.ndarray:
        """int64: the numbers of the units' sessions."""
        if self._targets is None:
            return numbers
        return np.searchsorted(self._sessions.offsets, self._targets[numbers], side="right") - 1
