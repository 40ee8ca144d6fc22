"""The weights that a training starts from."""

from __future__ import annotations

import math

import torch

from mtaw_fast.model import MTAW
from mtaw_fast.sessions import Sessions
from mtaw_fast.spectral import spectral_embedding


def initialise(model: MTAW, sessions: Sessions) -> None:
    """Draw the weights; with config.init 'spectral' start the items from the co-occurrence in `sessions`.

    Items without a neighbour in `sessions` keep their drawn vector. Spectral vectors have the length that
    drawn ones have on average, sqrt(d / 3) / sqrt(d).
    """
    config = model.config
    model.draw_weights(config.seed)
    if config.init == "spectral":
        vectors = spectral_embedding(sessions, len(model.item_embedding), config.d, math.sqrt(1 / 3), config.seed)
        with torch.no_grad():
            known = vectors.any(dim=1, keepdim=True).to(model.item_embedding.device)
            model.item_embedding.copy_(torch.where(known, vectors.to(known.device), model.item_embedding))
