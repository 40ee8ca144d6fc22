"""The weights that a training starts from."""

from __future__ import annotations

import numpy as np
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.encoder.initial_weights import initialize


def test_the_structured_start_keeps_some_of_each_item_s_own_direction() -> None:
    rng = np.random.default_rng(11)
    sessions = Sessions.from_lists([rng.integers(0, 25, 5) for _ in range(60)])  # items 25..29 are never clicked
    drawn = MTAW(Config.of(embedding_dim=12, init="uniform"), 30)
    initialize(drawn, sessions)
    spectral = MTAW(Config.of(embedding_dim=12, init="structured"), 30)
    initialize(spectral, sessions)
    cosine = torch.nn.functional.cosine_similarity(drawn.item_embedding, spectral.item_embedding)
    assert 0.1 < cosine[:25].mean() < 0.7
    torch.testing.assert_close(cosine[25:], torch.ones(5))
    torch.testing.assert_close(spectral.item_embedding.norm(dim=1), torch.full((30,), 3**-0.5))
    assert spectral.ffn_out_weight.norm() < 0.2 * drawn.ffn_out_weight.norm()
