"""Which process has which rows of the item table, and which share of a batch.

Every process makes the whole batch on its host, from the same sessions and seed. So it knows without a message which
rows the others need. Axes: W processes, T clicks, S samples, U distinct items of a process's clicks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.kernels.prefix_interest import Tiles
from mtaw_fast.training.steps.batch import Batch


@dataclass(frozen=True, slots=True)
class Shards:
    """The rows of the item table, in W ranges of nearly the same length."""

    n_items: int
    world: int

    def bounds(self) -> np.ndarray:
        """int64[W + 1]: rank r has the rows bounds[r] .. bounds[r + 1] - 1."""
        return np.arange(self.world + 1, dtype=np.int64) * self.n_items // self.world

    def rows(self, rank: int) -> slice:
        """Return the rows of a rank."""
        begin, end = self.bounds()[rank : rank + 2].tolist()
        return slice(begin, end)


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """One process's share of a batch: its own whole sessions, and what it needs of the rest.

    clicks, first_click: number in the whole batch, and the first one of this process.
    item_rows: int64[T_own], of the own clicks' items among the U rows.
    needed: how many of the U rows each rank sends, with ascending items.
    requested: int64[A], rows of the own shard that the ranks need, by rank; `requested_by`: how many each needs.
    offsets, rows, tiles: as in `Batch`, of the own sessions. targets, weights, mass: of the whole batch.
    samples: how many each rank has; together they are those of the batch, in its order.
    """

    clicks: int
    first_click: int
    item_rows: Tensor
    needed: list[int]
    requested: Tensor
    requested_by: list[int]
    offsets: Tensor
    rows: Tensor
    tiles: Tiles | None
    samples: list[int]
    targets: Tensor
    weights: Tensor | None
    mass: float

    @classmethod
    def of(cls, batch: Batch, shards: Shards, rank: int, device: torch.device) -> Share:
        """Return the share of a batch in host memory. Sessions stay whole, so sizes differ; a share may be empty."""
        offsets, clicks, rows = (part.numpy() for part in (batch.offsets, batch.clicks, batch.rows))
        cuts = np.searchsorted(offsets, np.arange(shards.world + 1) * len(clicks) // shards.world)
        edges = offsets[cuts]
        samples = np.diff(np.searchsorted(rows, edges))
        bounds = shards.bounds()
        own_clicks = slice(edges[rank], edges[rank + 1])
        requested, requested_by = [], []
        for begin, end in itertools.pairwise(edges):
            items = np.unique(clicks[begin:end])
            own_items = slice(*np.searchsorted(items, bounds[rank : rank + 2]))
            requested.append(items[own_items] - bounds[rank])
            requested_by.append(len(requested[-1]))
        items, item_rows = np.unique(clicks[own_clicks], return_inverse=True)
        own_offsets = offsets[cuts[rank] : cuts[rank + 1] + 1] - own_clicks.start
        own_rows = rows[(rows >= own_clicks.start) & (rows < own_clicks.stop)] - own_clicks.start

        def put(array: np.ndarray) -> Tensor:
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

        return cls(
            clicks=len(clicks),
            first_click=int(own_clicks.start),
            item_rows=put(item_rows.reshape(-1).astype(np.int64)),
            needed=np.diff(np.searchsorted(items, bounds)).tolist(),
            requested=put(np.concatenate(requested)),
            requested_by=requested_by,
            offsets=put(own_offsets),
            rows=put(own_rows),
            tiles=Tiles.of(own_offsets, device) if device.type == "cuda" and len(item_rows) else None,
            samples=samples.tolist(),
            targets=put(batch.targets.numpy()),
            weights=None if batch.weights is None else put(batch.weights.numpy()),
            mass=batch.mass,
        )
