"""Bin packing of whole sessions into tiles of a fixed number of clicks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mtaw_fast.kernels.native import _native


class TilePlan(NamedTuple):
    """The click of every slot. A slot is a position in a tile; tile k has slots k * capacity .. (k + 1) * capacity - 1.

    slot_click: int32[slots], the click (a row of the packed batch) in each slot, -1 in an empty one.
    slot_begin: int32[slots], the slot where the slot's session begins; its own number in an empty slot.
    tile_range: int32[tiles, 2], first and last tile of the session that runs over the tile's edges; both the
        tile itself if none does.
    """

    slot_click: np.ndarray
    slot_begin: np.ndarray
    tile_range: np.ndarray


def pack_tiles(offsets: np.ndarray, capacity: int, min_tiles: int = 0) -> TilePlan:
    """Pack B sessions into tiles of `capacity` clicks, best fit by decreasing length.

    offsets: int64[B + 1], ascending from 0. Sessions are placed from the longest to the shortest, equal
    lengths in their order. One longer than a tile takes new tiles, one after the other, and leaves the
    rest of its last tile to others. Any other goes whole into the tile with the fewest free slots that suffice,
    the lowest of several, or into a new one. A session's clicks are in consecutive slots, in their order.
    Empty tiles are added up to `min_tiles`, for callers that launch a fixed number.

    Raises ValueError on malformed offsets, a capacity outside 1..65,536 or more than 2^31 - 1 slots.
    Releases the GIL.
    """
    return TilePlan(*_native.pack_tiles(offsets, capacity, min_tiles))
