"""The input of a training step, the samples of sessions, and how an epoch is cut into batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions, offsets_of, ranges
from mtaw_fast.errors import TrainingError, UsageError
from mtaw_fast.kernels.prefix_interest import Tiles


def sample_counts(
    sessions: Sessions, min_prefix: int, counted: str = "all", type_weights: np.ndarray | None = None
) -> np.ndarray:
    """int64[B]: the number of rows that `Batch.of` makes of each session."""
    if counted == "all" and not _some_weigh_nothing(type_weights):
        return np.maximum(sessions.lengths - min_prefix, 0)
    totals = offsets_of(is_target(sessions, min_prefix, counted, type_weights))
    return totals[sessions.offsets[1:]] - totals[sessions.offsets[:-1]]


def is_target(
    sessions: Sessions, min_prefix: int, counted: str = "all", type_weights: np.ndarray | None = None
) -> np.ndarray:
    """bool[T]: whether a click is the target of a sample."""
    position = np.arange(sessions.n_clicks) - np.repeat(sessions.offsets[:-1], sessions.lengths)
    chosen = position >= min_prefix
    if counted == "new":
        chosen &= sessions.first_clicks()
    if _some_weigh_nothing(type_weights):
        assert type_weights is not None
        chosen &= type_weights[typed(sessions)] > 0
    return chosen


def _some_weigh_nothing(type_weights: np.ndarray | None) -> bool:
    return type_weights is not None and bool((type_weights == 0).any())


def nothing_to_learn(min_prefix: int, counted: str, type_weights: np.ndarray | None) -> TrainingError:
    """Return the error for sessions without a sample, with the possible causes."""
    causes = []
    if type_weights is not None and (type_weights == 0).any():
        causes.append("setting type_weights gives their types the weight 0")
    if counted == "new":
        causes.append("with targets=new a repeated item of a session is no target")
    causes.append("prepare the data set with a smaller min_prefix or longer sessions")
    return TrainingError(
        f"no training session has a target after {min_prefix} clicks or more, so there is nothing to learn from: "
        + "; or ".join(causes)
    )


def typed(sessions: Sessions) -> np.ndarray:
    """uint8[T]: the types of the clicks; raises UsageError without types."""
    if sessions.types is None:
        raise UsageError("weights by type: the sessions' clicks have no types; prepare the data set with --type COLUMN")
    return sessions.types


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The input of a step.

    clicks: int64[T], of B sessions without their last clicks. offsets: int64[B + 1], where each session begins.
    rows: int64[S], indices of the samples' last clicks. targets: int64[S].
    weights: float32[S] of the samples, scaled to the mean 1; None if all weigh the same.
    mass: the sum of the weights before the scaling: S if all weigh 1.
    tiles: the layout of the clicks for the GPU kernels; None on a CPU.
    """

    clicks: Tensor
    offsets: Tensor
    rows: Tensor
    targets: Tensor
    tiles: Tiles | None
    weights: Tensor | None
    mass: float

    @classmethod
    def of(
        cls,
        sessions: Sessions,
        min_prefix: int,
        device: torch.device,
        counted: str = "all",
        type_weights: np.ndarray | None = None,
        only_last: bool = False,
    ) -> Batch:
        """Return the batch of sessions; every prefix of `min_prefix` clicks or more with a next click is a sample.

        counted: 'all' samples, or the 'new' ones, whose target is not in the prefix. The others have no row, which
        gives the same loss as a row of weight 0. type_weights: float32[K], the weight of a sample by the type of its
        target; the batch's mean loss is that of samples repeated so often. only_last: the only sample of a session,
        which has two clicks or more, is its longest prefix, whatever `min_prefix` and `counted`.
        """
        lengths = np.maximum(sessions.lengths - 1, 0)
        offsets = offsets_of(lengths)
        indices = ranges(sessions.offsets[:-1], lengths)
        if only_last:
            rows = offsets[1:] - 1
        else:
            rows = np.flatnonzero(is_target(sessions, min_prefix, counted, type_weights)[indices + 1])
        clicks = sessions.items[indices].astype(np.int64)
        targets = sessions.items[indices[rows] + 1].astype(np.int64)

        def put(array: np.ndarray) -> Tensor:
            tensor = torch.from_numpy(array)
            # From pinned memory the copy does not wait for earlier work of the GPU.
            return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

        tiles = Tiles.of(offsets, device) if device.type == "cuda" else None
        weights, mass = None, float(len(rows))
        if type_weights is not None:
            counts = type_weights[typed(sessions)[indices[rows] + 1]].astype(np.float64)
            mass = float(counts.sum())
            weights = put((counts * (len(rows) / max(mass, 1e-300))).astype(np.float32))
        return cls(put(clicks), put(offsets), put(rows), put(targets), tiles, weights, mass)


# Sessions are sorted by length within runs of about this many batches: enough for little padding, few enough that
# each epoch has other batches.
_BATCHES_A_BUCKET = 64


def epoch_batches(lengths: np.ndarray, budget: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Cut the sessions into batches of at most `budget` tokens, in a random order.

    lengths: int64[B], tokens (samples or clicks) of each session; a longer one is a batch of its own. The same seed
    and epoch give the same batches on every machine. Returns int64 session numbers, an array a batch.
    """
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(len(lengths))
    bucket = np.cumsum(lengths[shuffled]) // (budget * _BATCHES_A_BUCKET)
    by_length = shuffled[np.lexsort((lengths[shuffled], bucket))]
    batches = _cut(by_length, lengths[by_length], budget)
    return [batches[k] for k in rng.permutation(len(batches))]


def _cut(order: np.ndarray, lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    batches = []
    begin, tokens = 0, 0
    for k, length in enumerate(lengths.tolist()):
        if tokens + length > budget and k > begin:
            batches.append(order[begin:k])
            begin, tokens = k, 0
        tokens += length
    if begin < len(order):
        batches.append(order[begin:])
    return batches


class EpochBatches:
    """Cuts the samples of sessions into new batches for every epoch.

    'sessions', 'random-sessions': a batch holds whole sessions, and one pass over a session gives all its samples.
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
        size = settings.batch_prefixes
        if settings.batches == "sessions":
            return epoch_batches(self._counts, size, settings.seed, epoch)
        order = np.random.default_rng([settings.seed, epoch]).permutation(self.units)
        return [order[begin : begin + size] for begin in range(0, self.units, size)]

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
