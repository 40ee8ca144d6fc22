"""The weights that a training starts from.

The paper does not specify them. `uniform` draws all of them from U(-1/sqrt(d), 1/sqrt(d)). `structured` starts from
what a model learns first, so that the few epochs before overfitting learn the rest:

- an item vector mostly follows the items that it co-occurs with, plus a random part, so that no two are equal;
- positions are small sinusoids, so that near positions are similar, also those that few sessions reach;
- query weights are near the identity, so that a click attends to clicks with a similar item and position;
- the FFN branch starts near zero, so that interests start as mixtures of the clicked items.

docs/results.md has the measurements on validation, each compared with `uniform`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.encoder.spectral import reads_some, spectral_embedding

POSITION_AMPLITUDE = 0.03
LONGEST_WAVE = 1000.0  # positions, as in the Transformer's 10000
FFN_SHRINKAGE = 0.1


def initialize(model: MTAW, sessions: Sessions) -> None:
    """Set every weight by model.init and optimizer.seed; 'structured' reads co-occurrence from `sessions`."""
    model.draw_weights(model.config.optimizer.seed)
    if model.config.model.init == "uniform":
        return
    d = model.config.model.embedding_dim
    with torch.no_grad():
        model.item_embedding.copy_(_mostly_spectral(model, sessions))
        model.position_embedding.copy_(_sinusoids(model.config.model.max_positions, d) * POSITION_AMPLITUDE)
        identity = torch.eye(d, device=model.itl_query_weight.device)
        model.itl_query_weight.add_(identity, alpha=model.config.model.itl_gain)
        model.iel_query_weight.add_(identity, alpha=model.config.model.iel_gain)
        model.ffn_out_weight.mul_(FFN_SHRINKAGE)
        model.ffn_in_bias.zero_()
        model.ffn_out_bias.zero_()


def _mostly_spectral(model: MTAW, sessions: Sessions) -> Tensor:
    """float32[N, d] of length sqrt(1/3), the mean length of random vectors: sqrt(share) u + sqrt(1 - share) r.

    u is an item's spectral direction and r its random one; an item without neighbors keeps r. With share 1 it
    starts at zero, as measured, except where items miss their neighbors because only some sessions are read.
    """
    config = model.config
    share = config.model.spectral_share
    spectral_rows = spectral_embedding(
        sessions, len(model.item_embedding), config.model.embedding_dim, math.sqrt(share), config.optimizer.seed
    )
    random_rows = functional.normalize(model.item_embedding.cpu(), dim=1)
    mixed = spectral_rows + random_rows * math.sqrt(1 - share)
    if reads_some(sessions):
        mixed = torch.where(mixed.any(dim=1, keepdim=True), mixed, random_rows)
    return functional.normalize(mixed, dim=1) * math.sqrt(1 / 3)


def _sinusoids(positions: int, d: int) -> Tensor:
    """float32[P, d]: sines and cosines of geometrically growing wavelengths (Vaswani et al., 2017)."""
    frequency = torch.exp(-math.log(LONGEST_WAVE) * torch.arange(0, d, 2) / d)
    angle = torch.arange(positions)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :d]
