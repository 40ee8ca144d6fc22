"""Validation during training: exact pessimistic ranks of every prefix, in one pass over whole sessions."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Sessions, check_prefixes
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.evaluation.metrics import gains_of, means_of
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.batch import Batch, epoch_batches

CLICKS_A_PASS = 4096
_ROWS_A_CHUNK = 256


def check_held_out(dataset: Dataset, config: Config) -> None:
    """Raise DataError if the validation sessions have no sample, or if their prefixes are too many to store.

    Prefixes are stored only with a session memory or weights by type; `validation_metrics` alone needs none.
    Raises UsageError if the encoder would read fewer clicks than the shortest prefix has.
    """
    longest = config.model.max_session_length
    if longest < dataset.min_prefix:
        raise UsageError(
            f"setting max_session_length={longest} is below the data set's shortest prefix, {dataset.min_prefix}; "
            "raise it"
        )
    lengths = dataset.train.split_last(config.optimizer.validation_fraction)[1].lengths
    # Without a sample in the other sessions too, the training says that there is nothing to learn from.
    if not (lengths > dataset.min_prefix).any() and (dataset.train.lengths > dataset.min_prefix).any():
        raise DataError(
            f"data set {dataset.name}: no validation session has a target after {dataset.min_prefix} clicks or more; "
            "hold more sessions out (--set validation_fraction=0.1), or prepare it with a smaller min_prefix"
        )
    if config.memory.enabled or config.loss.type_weights:
        check_prefixes(
            lengths,
            f"data set {dataset.name}: the validation prefixes",
            f", or hold out less than --set validation_fraction={config.optimizer.validation_fraction:g}",
        )


@torch.inference_mode()
def validation_metrics(
    model: MTAW, sessions: Sessions, min_prefix: int, type_weights: np.ndarray | None = None
) -> dict[str, float]:
    """Return `evaluation.metrics.METRICS` in percent over every sample of `sessions`.

    type_weights: float32[K], weights of the samples by the type of their target; None for equal weights.

    o_t depends on clicks 1..t alone, so one pass gives the query of every prefix. Among equal scores the target comes
    last, and a NaN score ranks before it.
    """
    model.eval()
    device = model.item_embedding.device
    catalog = functional.normalize(model.item_embedding, dim=1)
    ranks, weights = [], []
    for numbers in epoch_batches(sessions.lengths, CLICKS_A_PASS, seed=0, epoch=0):
        batch = Batch.of(sessions.select(np.sort(numbers)), min_prefix, device, type_weights=type_weights)
        if batch.weights is not None:  # with their original mean
            weights.append(batch.weights.cpu().numpy() * (batch.mass / max(len(batch.rows), 1)))
        queries = functional.normalize(model(batch.clicks, batch.offsets, tiles=batch.tiles)[batch.rows], dim=1)
        for rows in range(0, len(queries), _ROWS_A_CHUNK):
            chunk = slice(rows, rows + _ROWS_A_CHUNK)
            scores = queries[chunk] @ catalog.T
            target = scores.gather(1, batch.targets[chunk, None])
            ranks.append((~(scores < target)).sum(dim=1).cpu().numpy())
    return means_of(gains_of(np.concatenate(ranks)), np.concatenate(weights) if weights else None)
