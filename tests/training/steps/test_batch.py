"""Batches: every session once, within the budget, the same for the same seed."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.training.steps.batch import epoch_batches

lengths_strategy = st.lists(st.integers(1, 40), min_size=0, max_size=300).map(lambda x: np.array(x, dtype=np.int64))


@settings(deadline=None)
@given(lengths=lengths_strategy, budget=st.integers(1, 100), seed=st.integers(0, 9), epoch=st.integers(1, 9))
def test_every_session_once_and_no_batch_over_budget(lengths: np.ndarray, budget: int, seed: int, epoch: int) -> None:
    batches = epoch_batches(lengths, budget, seed, epoch)
    together = np.concatenate(batches) if batches else np.empty(0, np.int64)
    assert sorted(together.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert lengths[batch].sum() <= budget or len(batch) == 1
    repeated = epoch_batches(lengths, budget, seed, epoch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, repeated, strict=True))


def test_epochs_and_seeds_differ() -> None:
    lengths = np.full(500, 3)
    first = np.concatenate(epoch_batches(lengths, 30, 0, 1))
    assert not np.array_equal(first, np.concatenate(epoch_batches(lengths, 30, 0, 2)))
    assert not np.array_equal(first, np.concatenate(epoch_batches(lengths, 30, 1, 1)))


def test_a_batch_holds_sessions_of_like_length() -> None:
    lengths = np.random.default_rng(0).geometric(0.2, 20_000)
    batches = epoch_batches(lengths, 512, 0, 1)
    padding = sum(len(batch) * lengths[batch].max() for batch in batches) - lengths.sum()
    unsorted = np.array_split(np.random.default_rng(1).permutation(len(lengths)), len(batches))
    unsorted_padding = sum(len(batch) * lengths[batch].max() for batch in unsorted) - lengths.sum()
    assert padding < unsorted_padding / 10
    assert len(batches) < 1.05 * lengths.sum() / 512
