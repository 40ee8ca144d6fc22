"""The batches of an epoch: every session or sample once, within the budget, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.training.steps.batch import Batch, EpochBatches, epoch_batches
from tests.support.training.ring import ring_sessions
from tests.support.training.steps import CPU

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


def test_random_sessions_are_each_in_one_batch_of_so_many() -> None:
    sessions = ring_sessions(60, seed=1)
    source = EpochBatches(config_of(batch_prefixes=16, batches="random-sessions"), sessions, 1)
    cut = source.cut(3)
    assert [len(numbers) for numbers in cut] == [16, 16, 16, 12]
    assert sorted(np.concatenate(cut).tolist()) == list(range(60))
    samples = [sample for numbers in cut for sample in samples_of(source.batch(numbers, CPU))]
    assert sorted(samples) == sorted(samples_of(Batch.of(sessions, 1, CPU)))


@pytest.mark.parametrize("batches", ["random-sessions", "prefixes"])
def test_a_seed_and_an_epoch_fix_the_batches(batches: str) -> None:
    def cut(seed: int, epoch: int) -> list[list[int]]:
        config = config_of(seed=seed, batch_prefixes=32, batches=batches)
        return [numbers.tolist() for numbers in EpochBatches(config, ring_sessions(60, seed=1), 1).cut(epoch)]

    assert cut(0, 1) == cut(0, 1)
    assert cut(0, 1) != cut(0, 2)
    assert cut(0, 1) != cut(1, 1)
    lengths = np.full(500, 3)
    whole = [np.concatenate(epoch_batches(lengths, 30, *place)).tolist() for place in ((0, 1), (0, 2), (1, 1))]
    assert whole[0] not in whole[1:]


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


def test_a_batch_holds_sessions_of_like_length() -> None:
    lengths = np.random.default_rng(0).geometric(0.2, 20_000)
    batches = epoch_batches(lengths, 512, 0, 1)
    padding = sum(len(batch) * lengths[batch].max() for batch in batches) - lengths.sum()
    unsorted = np.array_split(np.random.default_rng(1).permutation(len(lengths)), len(batches))
    unsorted_padding = sum(len(batch) * lengths[batch].max() for batch in unsorted) - lengths.sum()
    assert padding < unsorted_padding / 10
    assert len(batches) < 1.05 * lengths.sum() / 512
