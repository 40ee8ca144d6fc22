"""One training step's input: whole sessions, every prefix of which is a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.data.sessions import Sessions, offsets_of, ranges
from mtaw_fast.kernels.prefix_interest import Tiles


def sample_counts(sessions: Sessions, min_prefix: int, counted: str = "all") -> np.ndarray:
    """int64[B]: how many rows `Batch.of` makes of each session."""
    if counted == "all":
        return np.maximum(sessions.lengths - min_prefix, 0)
    place = np.arange(sessions.n_clicks) - np.repeat(sessions.offsets[:-1], sessions.lengths)
    is_target = sessions.first_clicks() & (place >= min_prefix)
    totals = offsets_of(is_target)
    return totals[sessions.offsets[1:]] - totals[sessions.offsets[:-1]]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """clicks: int64[T] of B sessions without their last click; offsets: int64[B + 1];
    rows: int64[S], the clicks after which a sample asks for the next; targets: int64[S].
    tiles: where the clicks lie for the GPU kernels; None on a CPU, where none needs them."""

    clicks: Tensor
    offsets: Tensor
    rows: Tensor
    targets: Tensor
    tiles: Tiles | None

    @classmethod
    def of(cls, sessions: Sessions, min_prefix: int, device: torch.device, counted: str = "all") -> Batch:
        """Every prefix of at least `min_prefix` clicks is a sample; sessions have two clicks or more.

        counted: 'all' samples, or the 'new' ones, whose target is not in the prefix. The others have no row, which is
        the same loss as a row of weight 0.
        """
        lengths = sessions.lengths - 1
        offsets = offsets_of(lengths)
        place = ranges(sessions.offsets[:-1], lengths)
        in_session = ranges(np.zeros(len(sessions), np.int64), lengths)
        is_sample = in_session + 1 >= min_prefix
        if counted == "new":
            is_sample &= sessions.first_clicks()[place + 1]
        rows = np.flatnonzero(is_sample)
        clicks = sessions.items[place].astype(np.int64)
        targets = sessions.items[place[rows] + 1].astype(np.int64)

        def put(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        tiles = Tiles.of(offsets, device) if device.type == "cuda" else None
        return cls(put(clicks), put(offsets), put(rows), put(targets), tiles)
