"""The batches of an epoch: every sample once, seeded, and prefixes as exact as whole sessions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.epoch import EpochBatches
from tests.support.training.ring import N_ITEMS, ring_sessions

CPU = torch.device("cpu")
session_lists = st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=9), min_size=1, max_size=12)


def config_of(**settings: object) -> Config:
    return Config.of(embedding_dim=12, dropout=0.0, compute_dtype="float32", **{"batches": "prefixes", **settings})


def samples_of(batch: Batch) -> list[tuple[tuple[int, ...], int]]:
    """(prefix, target) of every sample of a batch."""
    clicks, offsets = batch.clicks.tolist(), batch.offsets.tolist()
    begins = [max(offset for offset in offsets[:-1] if offset <= row) for row in batch.rows.tolist()]
    return [
        (tuple(clicks[begin : row + 1]), target)
        for begin, row, target in zip(begins, batch.rows.tolist(), batch.targets.tolist(), strict=True)
    ]


@settings(deadline=None, max_examples=50)
@given(
    lists=session_lists,
    budget=st.integers(1, 30),
    min_prefix=st.integers(1, 2),
    targets=st.sampled_from(["all", "new"]),
    typed=st.booleans(),
)
def test_prefixes_are_the_samples_of_the_sessions(
    lists: list[list[int]], budget: int, min_prefix: int, targets: str, typed: bool
) -> None:
    sessions, weights = Sessions.from_lists(lists), None
    if typed:
        weights = np.array([0.0, 1.0, 2.5], np.float32)
        sessions = Sessions(sessions.items, sessions.offsets, None, (np.arange(sessions.n_clicks) % 3).astype(np.uint8))
    config = config_of(batch_prefixes=budget, targets=targets)
    source = EpochBatches(config, sessions, min_prefix, weights)
    expected = Batch.of(sessions, min_prefix, CPU, targets, weights)
    cut = source.cut(3)
    assert source.units == len(expected.rows)
    assert [len(numbers) for numbers in cut[:-1]] == [budget] * (len(cut) - 1)
    batches = [source.batch(numbers, CPU) for numbers in cut]
    assert sorted(sample for batch in batches for sample in samples_of(batch)) == sorted(samples_of(expected))
    assert sum(batch.mass for batch in batches) == pytest.approx(expected.mass)
    for numbers, batch in zip(cut, batches, strict=True):
        owners = source.sessions_of(numbers)
        for owner, (prefix, target) in zip(owners, samples_of(batch), strict=True):
            assert tuple(lists[owner][: len(prefix) + 1]) == (*prefix, target)


def test_prefixes_give_the_loss_and_gradients_of_whole_sessions() -> None:
    sessions = ring_sessions(20, seed=4)
    config = config_of(batch_prefixes=10**6)
    results = []
    for kind in ("prefixes", "sessions"):
        source = EpochBatches(config.replace(batches=kind), sessions, 2)
        model = MTAW(config, N_ITEMS).draw_weights(seed=3)
        (numbers,) = source.cut(1)
        batch = source.batch(numbers, CPU)
        queries = model(batch.clicks, batch.offsets)[batch.rows]
        loss = aw_loss(queries, model.item_embedding, batch.targets, scale=16, gamma=2, backend="reference")
        results.append((loss, torch.autograd.grad(loss, list(model.parameters()))))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-7)


def test_a_seed_and_an_epoch_fix_the_batches() -> None:
    def cut(seed: int, epoch: int) -> list[list[int]]:
        source = EpochBatches(config_of(seed=seed, batch_prefixes=32), ring_sessions(60, seed=1), 1)
        return [numbers.tolist() for numbers in source.cut(epoch)]

    assert cut(0, 1) == cut(0, 1)
    assert cut(0, 1) != cut(0, 2)
    assert cut(0, 1) != cut(1, 1)


def test_a_batch_mixes_sessions() -> None:
    sessions = ring_sessions(200, seed=1)
    source = EpochBatches(config_of(batch_prefixes=50), sessions, 1)
    owners = source.sessions_of(source.cut(1)[0])
    assert len(np.unique(owners)) > 30
    assert len(np.unique(sessions.lengths[owners])) > 1 or len(np.unique(sessions.lengths)) == 1
