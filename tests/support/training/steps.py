"""Batches and steppers for the tests of training steps."""

from __future__ import annotations

import torch

from mtaw_fast.config import Config
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.batch import Batch, epoch_batches
from tests.support.training.ring import N_ITEMS, ring_sessions, small_config

CPU = torch.device("cpu")
SESSIONS = ring_sessions(60, seed=4)


def still_config(**changes: object) -> Config:
    """No dropout, float32, and clipping that takes effect."""
    return small_config().replace(dropout=0.0, compute_dtype="float32", clip_norm=0.2, weight_decay=0.01, **changes)


def new_model(config: Config, device: torch.device = CPU) -> MTAW:
    """Drawn weights, in training mode."""
    return MTAW(config, N_ITEMS).draw_weights(3).to(device).train()


def batches(config: Config, min_prefix: int = 1) -> list[Batch]:
    """Every batch of an epoch of SESSIONS, of several sizes."""
    samples = SESSIONS.lengths - min_prefix
    usable = SESSIONS.select((samples > 0).nonzero()[0])
    numbers = epoch_batches(samples[samples > 0], config.optimizer.batch_prefixes, 0, 1)
    return [Batch.of(usable.select(chosen), min_prefix, CPU) for chosen in numbers]
