"""One training step's input: whole sessions, every prefix of which is a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.data.sessions import Sessions, offsets_of, ranges
from mtaw_fast.errors import TrainingError, UsageError
from mtaw_fast.kernels.prefix_interest import Tiles


def sample_counts(
    sessions: Sessions, min_prefix: int, counted: str = "all", type_weights: np.ndarray | None = None
) -> np.ndarray:
    """int64[B]: how many rows `Batch.of` makes of each session."""
    weightless = type_weights is not None and bool((type_weights == 0).any())
    if counted == "all" and not weightless:
        return np.maximum(sessions.lengths - min_prefix, 0)
    place = np.arange(sessions.n_clicks) - np.repeat(sessions.offsets[:-1], sessions.lengths)
    is_target = place >= min_prefix
    if counted == "new":
        is_target &= sessions.first_clicks()
    if weightless:
        assert type_weights is not None
        is_target &= type_weights[typed(sessions)] > 0
    totals = offsets_of(is_target)
    return totals[sessions.offsets[1:]] - totals[sessions.offsets[:-1]]


def nothing_to_learn(min_prefix: int, counted: str, type_weights: np.ndarray | None) -> TrainingError:
    """Of sessions of which `sample_counts` counts no row: the error that says why that may be."""
    may_be = []
    if type_weights is not None and (type_weights == 0).any():
        may_be.append("setting type_weights counts no type that they have")
    if counted == "new":
        may_be.append("with targets=new a click on an item of its own session counts nothing")
    may_be.append("prepare the data set with a smaller min_prefix or longer sessions")
    return TrainingError(
        f"no training session has a target behind {min_prefix} clicks or more, so there is nothing to learn from: "
        + "; or ".join(may_be)
    )


def typed(sessions: Sessions) -> np.ndarray:
    """uint8[T]: the types of the clicks; UsageError where they have none."""
    if sessions.types is None:
        raise UsageError("weights by type: the sessions' clicks have no types; prepare the data set with --type COLUMN")
    return sessions.types


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """clicks: int64[T] of B sessions without their last click; offsets: int64[B + 1];
    rows: int64[S], the clicks after which a sample asks for the next; targets: int64[S].
    weights: float32[S], what the samples count, their mean 1; None where all count the same.
    mass: the sum of what they counted before that: S where all count 1.
    tiles: where the clicks lie for the GPU kernels; None on a CPU, where none needs them."""

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
    ) -> Batch:
        """Every prefix of at least `min_prefix` clicks is a sample; sessions have two clicks or more.

        counted: 'all' samples, or the 'new' ones, whose target is not in the prefix. The others have no row, which is
        the same loss as a row of weight 0. type_weights: float32[K], what a sample counts by the type of its target;
        the batch's mean loss is that of samples so often repeated.
        """
        lengths = sessions.lengths - 1
        offsets = offsets_of(lengths)
        place = ranges(sessions.offsets[:-1], lengths)
        in_session = ranges(np.zeros(len(sessions), np.int64), lengths)
        is_sample = in_session + 1 >= min_prefix
        if counted == "new":
            is_sample &= sessions.first_clicks()[place + 1]
        if type_weights is not None:
            is_sample &= type_weights[typed(sessions)[place + 1]] > 0
        rows = np.flatnonzero(is_sample)
        clicks = sessions.items[place].astype(np.int64)
        targets = sessions.items[place[rows] + 1].astype(np.int64)

        def put(array: np.ndarray) -> Tensor:
            tensor = torch.from_numpy(array)
            # Pinned, the copy does not wait for the GPU's work before it.
            return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

        tiles = Tiles.of(offsets, device) if device.type == "cuda" else None
        weights, mass = None, float(len(rows))
        if type_weights is not None:
            counts = type_weights[typed(sessions)[place[rows] + 1]].astype(np.float64)
            mass = float(counts.sum())
            weights = put((counts * (len(rows) / max(mass, 1e-300))).astype(np.float32))
        return cls(put(clicks), put(offsets), put(rows), put(targets), tiles, weights, mass)
