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


def test_an_item_without_neighbors_keeps_its_direction_also_if_all_others_have_none_of_their_own() -> None:
    sessions = Sessions.from_lists([[0, 1, 2], [1, 2, 3]])  # items 4 and 5 are never clicked
    drawn = MTAW(Config.of(embedding_dim=4, init="uniform"), 6)
    spectral = MTAW(Config.of(embedding_dim=4, init="structured", spectral_share=1), 6)
    initialize(drawn, sessions)
    initialize(spectral, sessions)
    torch.testing.assert_close(spectral.item_embedding.norm(dim=1), torch.full((6,), 3**-0.5))
    cosine = torch.nn.functional.cosine_similarity(drawn.item_embedding, spectral.item_embedding)
    torch.testing.assert_close(cosine[4:], torch.ones(2))
