"""The weights that a training starts from."""

from __future__ import annotations

import numpy as np
import pytest
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


def test_an_item_of_sessions_that_are_not_read_keeps_its_own_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any direction of its own (share 1) an item starts at zero only if all sessions were read."""
    sessions = Sessions.from_lists([[4, 5], [0, 1, 2], [1, 2, 3]])
    drawn = MTAW(Config.of(embedding_dim=4, init="uniform"), 7)
    started = MTAW(Config.of(embedding_dim=4, init="structured", spectral_share=1), 7)
    initialize(drawn, sessions)
    initialize(started, sessions)
    assert started.item_embedding[:6].any(dim=1).all()
    assert not started.item_embedding[6].any(), "no session has it"
    monkeypatch.setattr("mtaw_fast.training.encoder.spectral.MAX_PAIRS", 3)  # reads the last one
    initialize(started, sessions)
    cosine = torch.nn.functional.cosine_similarity(drawn.item_embedding, started.item_embedding)
    torch.testing.assert_close(started.item_embedding.norm(dim=1), torch.full((7,), 3**-0.5))
    torch.testing.assert_close(cosine[4:], torch.ones(3))
