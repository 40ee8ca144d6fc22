"""Candidates of the last sessions depend only on the sessions before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.training import train
from mtaw_fast.training.memory_tables import build_tables
from mtaw_fast.training.progress import Silent
from mtaw_fast.training.ranker import train_ranker
from mtaw_fast.training.ranker.candidates import Prefixes
from mtaw_fast.training.ranker.train_ranker import ranker_samples, split_for_ranker
from tests.support.random_bundle import random_weights
from tests.support.training.ring import N_ITEMS, ring_sessions

CONFIG = Config.of(embedding_dim=12, enabled=True, ranker_fraction=0.25, dense_candidates=N_ITEMS)


def test_prefixes_are_the_samples() -> None:
    sessions = ring_sessions(40, seed=5)
    for min_prefix in (1, 3):
        samples, prefixes = Samples.from_sessions(sessions, min_prefix), Prefixes.of(sessions, min_prefix)
        assert prefixes.targets.tolist() == samples.targets.tolist()
        assert prefixes.lengths.tolist() == samples.prefixes.lengths.tolist()
        packed = prefixes.packed(5, 30)
        assert packed.items.tolist() == samples.prefixes.slice(5, 30).items.tolist()
        assert packed.offsets.tolist() == samples.prefixes.slice(5, 30).offsets.tolist()


def slice_features(sessions: Sessions) -> tuple[np.ndarray, np.ndarray]:
    """Ids and features of every prefix of the last of `sessions`, with fixed weights."""
    config = CONFIG.replace(prequential=False)
    candidates = ranker_samples(
        config, sessions, N_ITEMS, 1, random_weights(CONFIG, N_ITEMS), Path("unused"), "ranker", Silent()
    )
    return candidates.batch(np.arange(len(candidates.targets)))


def shuffled(sessions: Sessions) -> Sessions:
    return sessions.select(np.random.default_rng(3).permutation(len(sessions)))


def relabeled(sessions: Sessions) -> Sessions:
    return Sessions(np.random.default_rng(3).permutation(sessions.items), sessions.offsets)


@pytest.mark.parametrize("change", [shuffled, relabeled], ids=["shuffled", "other clicks"])
def test_later_sessions_change_no_feature(change: Callable[[Sessions], Sessions]) -> None:
    sessions = ring_sessions(200, seed=6)
    before, last = sessions.slice(0, 150), sessions.slice(150, 200)
    early = 20  # of the last sessions, which stay as they are
    changed = Sessions.concatenate([before, last.slice(0, early), change(last.slice(early, 50))])
    unchanged = len(Samples.from_sessions(last.slice(0, early), 1))
    ids, features = slice_features(sessions)
    other_ids, other_features = slice_features(changed)
    assert np.array_equal(ids[:unchanged], other_ids[:unchanged])
    assert np.array_equal(features[:unchanged], other_features[:unchanged])
    assert not np.array_equal(features[unchanged:], other_features[unchanged:])


def test_the_clicks_after_a_prefix_change_none_of_its_features() -> None:
    sessions = ring_sessions(200, seed=6)
    rng = np.random.default_rng(1)
    cut = [session if b < 150 else np.concatenate([session[:2], rng.integers(0, N_ITEMS, len(session) - 2)])
           for b, session in enumerate(sessions)]  # fmt: skip
    firsts = np.flatnonzero(Prefixes.of(sessions.slice(150, 200), 1).lengths <= 2)
    (ids, features), (other_ids, other_features) = slice_features(sessions), slice_features(Sessions.from_lists(cut))
    assert len(firsts) > 50
    assert np.array_equal(ids[firsts], other_ids[firsts])
    assert np.array_equal(features[firsts], other_features[firsts])


def test_a_pair_of_items_that_only_the_last_sessions_have_is_unknown() -> None:
    # Only the last sessions have items 0 and 1 together: from 0, item 1 has no evidence but its clicks elsewhere.
    before = [[0, 5], [1, 6]] * 30
    sessions = Sessions.from_lists([*before, *([[0, 1]] * 20)])
    ids, features = slice_features(sessions)
    tables = build_tables(CONFIG, Sessions.from_lists(before), N_ITEMS)
    assert tables.neighbors[tables.row_offsets[0] : tables.row_offsets[1]].tolist() == [5]
    sums = [feature_names().index(name) for name in ("fwd_dec", "ses_dec")]
    nothing = np.log(np.array([1e-4, 1e-4], np.float32))
    for row in range(20):
        place = ids[row].tolist().index(1)  # from the dense list
        assert features[row, place, sums] == pytest.approx(nothing, rel=1e-5)


@pytest.mark.parametrize(
    "change",
    [pytest.param(shuffled, marks=pytest.mark.long(caught="here, with other clicks")), relabeled],
    ids=["shuffled", "other clicks"],
)
def test_the_held_out_sessions_reach_neither_the_encoder_nor_the_ranker(
    ring: Dataset, remembering: Config, tmp_path: Path, change: Callable[[Sessions], Sessions]
) -> None:
    known, held_out = ring.train.split_last(remembering.optimizer.validation_fraction)
    other = replace(ring, train=Sessions.concatenate([known, change(held_out)]))
    runs = ((ring, "a"), (other, "b"))
    trained = [train(data, remembering, tmp_path / name, refit=False) for data, name in runs]
    a, b = (result.model for result in trained)
    assert a.ranker_net is not None
    assert b.ranker_net is not None
    assert all(np.array_equal(array, b.ranker_net.arrays()[name]) for name, array in a.ranker_net.arrays().items())
    assert all(np.array_equal(array, b.weights[name]) for name, array in a.weights.items())
    assert a.memory is not None
    assert b.memory is not None
    assert np.array_equal(a.memory.values, b.memory.values)
    assert trained[0].metrics != trained[1].metrics or change is shuffled


def test_one_session_is_too_few_whatever_the_data_set_has() -> None:
    """With validation_fraction=0.99 a ranker gets the one session that is left of a hundred."""
    with pytest.raises(DataError, match="a ranker, of only 1; add more, or lower validation_fraction"):
        split_for_ranker(Config.of(), Sessions.from_lists([[1, 2, 3]]))


@pytest.mark.parametrize(("most", "expected"), [(100, 5), (10, 5), (9, 4), (1, 1), (0, 1)])
def test_at_most_so_many_clicks_and_one_session_at_least(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, most: int, expected: int
) -> None:
    monkeypatch.setattr(train_ranker, "MAX_CLICKS", most)
    sessions = Sessions.from_lists([[k, k + 1] for k in range(20)])
    before, last = split_for_ranker(Config.of(ranker_fraction=0.25), sessions)
    assert (len(before), len(last)) == (20 - expected, expected)
    assert [*before.items.tolist(), *last.items.tolist()] == sessions.items.tolist()
    config = Config.of(ranker_fraction=0.25, prequential=False, dense_candidates=0)
    ranker_samples(config, sessions, 21, 1, None, tmp_path, "ranker", Silent())
    assert caplog.messages == (
        [] if most >= 10 else [
            f"ranker: learns from the last {most} clicks, since the last 0.25 of the sessions (ranker_fraction) have 10"
        ]
    )  # fmt: skip
