"""The tile plan of a batch: whole sessions packed on the host, once a batch, for the kernels that take a tile each.

A slot is a position in a tile: tile k has the slots k * capacity .. (k + 1) * capacity - 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.kernels.native.pack import pack_tiles
from mtaw_fast.kernels.prefix_interest.configs import DEFAULT_TILE_CLICKS


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """The click of every slot (`kernels/native/pack.py`).

    slot_click: int32[slots], -1 in an empty slot. slot_begin: int32[slots], the slot where the slot's session
    begins. tile_range: int32[tiles, 2], first and last tile of the session that runs over a tile's edges.
    capacity: clicks a tile. n_clicks: T of the batch.
    """

    slot_click: Tensor
    slot_begin: Tensor
    tile_range: Tensor
    capacity: int
    n_clicks: int

    @classmethod
    def of(
        cls,
        offsets: np.ndarray,
        device: torch.device | str,
        *,
        capacity: int = DEFAULT_TILE_CLICKS,
        min_tiles: int = 0,
    ) -> Tiles:
        """Pack B sessions, `offsets` int64[B + 1] on the host; the plan goes to the device in one copy.

        Empty tiles are added up to `min_tiles`: launches of one size can be replayed as a CUDA graph.
        Raises ValueError on malformed offsets.
        """
        plan = pack_tiles(np.ascontiguousarray(offsets, dtype=np.int64), capacity, min_tiles)
        joined = torch.from_numpy(np.concatenate([array.ravel() for array in plan]))
        if torch.device(device).type == "cuda":
            joined = joined.pin_memory()  # else the copy would wait for the GPU
        joined = joined.to(device, non_blocking=True)
        slots, tiles = len(plan.slot_click), len(plan.tile_range)
        slot_click, slot_begin, tile_range = joined.split([slots, slots, 2 * tiles])
        return cls(slot_click, slot_begin, tile_range.view(tiles, 2), capacity, int(offsets[-1]))

    @property
    def n_tiles(self) -> int:
        """Tiles, empty ones included: the programs of a launch."""
        return len(self.tile_range)
