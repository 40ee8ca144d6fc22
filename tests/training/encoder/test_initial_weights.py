"""The weights that a training starts from: neighbors in sessions become neighbors in space."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.encoder.initial_weights import initialize
from mtaw_fast.training.encoder.spectral import WINDOW, _ppmi, _within, count_pairs, spectral_embedding


def clusters(seed: int = 0) -> Sessions:
    """Sessions within clusters of ten items: 0..9, 10..19, 20..29; items 30 and 31 have no neighbors."""
    rng = np.random.default_rng(seed)
    sessions = [rng.integers(0, 10, rng.integers(2, 7)) + 10 * rng.integers(0, 3) for _ in range(400)]
    return Sessions.from_lists([*sessions, [30], [31, 31]])


def test_items_of_a_cluster_are_nearer_and_those_without_neighbors_zero() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    vectors = spectral_embedding(clusters(), 32, 8, 0.5, seed=0)
    assert torch.equal(torch.rand(1), expected), "the global generator is left alone"
    assert torch.equal(vectors, spectral_embedding(clusters(), 32, 8, 0.5, seed=0))
    torch.testing.assert_close(vectors[:30].norm(dim=1), torch.full((30,), 0.5))
    assert not vectors[30:].any()
    cosine = 4 * vectors[:30] @ vectors[:30].T
    together = (torch.arange(30)[:, None] // 10) == (torch.arange(30)[None] // 10)
    assert cosine[together].mean() > cosine[~together].mean() + 0.3


def test_ppmi_by_hand() -> None:
    """Sessions [0, 1, 2] and [0, 1]: C_01 = 2, C_02 = 1/2, C_12 = 1 and their mirrors."""
    got = _ppmi(Sessions.from_lists([[0, 1, 2], [0, 1]]), 3).to_dense().numpy()
    counts = np.array([[0, 2, 0.5], [2, 0, 1], [0.5, 1, 0]])
    total = counts.sum(axis=1)
    context = total**0.75 / (total**0.75).sum()
    with np.errstate(divide="ignore"):
        expected = np.maximum(np.log(counts / (total[:, None] * context)), 0)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("sessions", [[], [[0]], [[0, 0, 0]], [[0, 1]]], ids=str)
def test_next_to_nothing(sessions: list[list[int]]) -> None:
    vectors = spectral_embedding(Sessions.from_lists(sessions), 3, 5, 1.0, seed=0)
    assert vectors.shape == (3, 5)
    assert torch.isfinite(vectors).all()
    assert bool(vectors.any()) == (sessions == [[0, 1]])


def test_of_many_pairs_some_sessions_spread_evenly_are_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = clusters()
    pairs = count_pairs(sessions)
    session = np.repeat(np.arange(len(sessions)), sessions.lengths)
    places = np.flatnonzero(session[:, None] == session)
    assert pairs == sum(0 < place % len(session) - place // len(session) <= WINDOW for place in places.tolist())
    assert _within(sessions, pairs) is sessions
    assert caplog.text == ""
    part = _within(sessions, pairs // 4)
    assert f"reads {len(part)} of 402 sessions" in caplog.text
    assert 0.2 * pairs < count_pairs(part) < 0.3 * pairs
    assert part.items[: part.offsets[1]].tolist() == sessions.items[sessions.offsets[3] : sessions.offsets[4]].tolist()
    expected = spectral_embedding(part, 32, 8, 1.0, 0)
    monkeypatch.setattr("mtaw_fast.training.encoder.spectral.MAX_PAIRS", pairs // 4)
    assert torch.equal(spectral_embedding(sessions, 32, 8, 1.0, 0), expected)


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
