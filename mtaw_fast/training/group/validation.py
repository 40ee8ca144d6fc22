"""The metrics of `training.encoder.validation` for a sharded table: each process counts in its own rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.evaluation.metrics import gains_of, means_of
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.encoder.validation import CLICKS_A_PASS
from mtaw_fast.training.group.process_group import ProcessGroup
from mtaw_fast.training.group.shards import Shards, Share
from mtaw_fast.training.group.step import look_up
from mtaw_fast.training.steps.batch import Batch, epoch_batches

_ROWS = 256
_ITEMS = 1 << 16  # of the catalog that are scored at once


@torch.inference_mode()
def group_metrics(
    model: MTAW,
    shards: Shards,
    process_group: ProcessGroup,
    sessions: Sessions,
    min_prefix: int,
    type_weights: np.ndarray | None = None,
) -> dict[str, float]:
    """Return the same as `validation_metrics`, in every process."""
    model.eval()
    table, host = model.item_embedding.detach(), torch.device("cpu")
    ranks, weights = [], []
    for numbers in epoch_batches(sessions.lengths, CLICKS_A_PASS, seed=0, epoch=0):
        batch = Batch.of(sessions.select(np.sort(numbers)), min_prefix, host, type_weights=type_weights)
        if batch.weights is not None:  # with their original mean
            weights.append(batch.weights.numpy() * (batch.mass / max(len(batch.rows), 1)))
        share = Share.of(batch, shards, process_group.rank, process_group.device)
        own_vectors = look_up(share, table, process_group)
        if len(own_vectors):
            own_vectors = functional.normalize(
                model.interests(own_vectors, share.offsets, tiles=share.tiles)[share.rows], dim=1
            )
        queries = process_group.collectives.gather(own_vectors, share.samples)
        ranks.append(
            _ranks(queries, share.targets, table, shards.rows(process_group.rank).start, process_group).cpu().numpy()
        )
    return means_of(gains_of(np.concatenate(ranks)), np.concatenate(weights) if weights else None)


def _ranks(queries: Tensor, targets: Tensor, table: Tensor, first_item: int, process_group: ProcessGroup) -> Tensor:
    """int64[S]: pessimistic ranks of the targets in the whole catalog."""
    own_rows = targets - first_item
    is_own = (own_rows >= 0) & (own_rows < len(table))
    vectors = functional.normalize(table[torch.where(is_own, own_rows, 0)], dim=1)
    # Only one process adds a number that is not zero, so the sum has no rounding.
    target_scores = process_group.collectives.sum(torch.where(is_own, (queries * vectors).sum(dim=1), 0.0))
    counts = torch.zeros(len(queries), dtype=torch.float64, device=queries.device)
    for begin in range(0, len(table), _ITEMS):
        units = functional.normalize(table[begin : begin + _ITEMS], dim=1)
        for first in range(0, len(queries), _ROWS):
            rows = slice(first, first + _ROWS)
            scores = queries[rows] @ units.T
            inside = (is_own[rows] & (own_rows[rows] >= begin) & (own_rows[rows] < begin + len(units))).nonzero()[:, 0]
            scores[inside, own_rows[rows][inside] - begin] = torch.inf  # the target itself, which counts once
            counts[rows] += (~(scores < target_scores[rows, None])).sum(dim=1)
    return process_group.collectives.sum(counts).long()
