"""One training step's input: whole sessions, every prefix of which is a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.kernels.prefix_interest import Tiles
from mtaw_fast.sessions import Sessions, offsets_of, ranges


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
    def of(cls, sessions: Sessions, min_prefix: int, device: torch.device) -> Batch:
        """Every prefix of at least `min_prefix` clicks is a sample; sessions have two clicks or more."""
        lengths = sessions.lengths - 1
        offsets = offsets_of(lengths)
        place = ranges(sessions.offsets[:-1], lengths)
        in_session = ranges(np.zeros(len(sessions), np.int64), lengths)
        rows = np.flatnonzero(in_session + 1 >= min_prefix)
        clicks = sessions.items[place].astype(np.int64)
        targets = sessions.items[place[rows] + 1].astype(np.int64)

        def put(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        tiles = Tiles.of(offsets, device) if device.type == "cuda" else None
        return cls(put(clicks), put(offsets), put(rows), put(targets), tiles)
