"""Candidates of the last sessions depend only on the sessions before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError
from mtaw_fast.training import train
from mtaw_fast.training.progress import Silent
from mtaw_fast.training.ranker import train_ranker
from mtaw_fast.training.ranker.candidates import Prefixes
from mtaw_fast.training.ranker.train_ranker import ranker_samples, split_for_ranker
from tests.support.random_bundle import random_weights
from tests.support.training.ring import N_ITEMS, ring_sessions
from tests.support.training.runs import same

CONFIG = Config.of(embedding_dim=12, enabled=True, ranker_fraction=0.25, dense_candidates=N_ITEMS)


def slice_features(sessions: Sessions) -> tuple[np.ndarray, np.ndarray]:
    """Ids and features of every prefix of the last of `sessions`, with fixed weights."""
    config = CONFIG.replace(prequential=False)
    candidates = ranker_samples(
        config, sessions, N_ITEMS, 1, random_weights(CONFIG, N_ITEMS), Path("unused"), "ranker", Silent()
    )
    return candidates.batch(np.arange(len(candidates.targets)))


def relabeled(sessions: Sessions) -> Sessions:
    return Sessions(np.random.default_rng(3).permutation(sessions.items), sessions.offsets)


def test_later_clicks_change_no_feature() -> None:
    """Neither later sessions nor those after a prefix in its own one."""
    sessions = ring_sessions(200, seed=6)
    before, last = sessions.slice(0, 150), sessions.slice(150, 200)
    early = 20  # of the last sessions, which stay as they are
    changed = Sessions.concatenate([before, last.slice(0, early), relabeled(last.slice(early, 50))])
    unchanged = len(Samples.from_sessions(last.slice(0, early), 1))
    rng = np.random.default_rng(1)
    cut = [session if b < 150 else np.concatenate([session[:2], rng.integers(0, N_ITEMS, len(session) - 2)])
           for b, session in enumerate(sessions)]  # fmt: skip
    firsts = np.flatnonzero(Prefixes.of(last, 1).lengths <= 2)
    assert len(firsts) > 50
    ids, features = slice_features(sessions)
    for other, rows in ((changed, np.arange(unchanged)), (Sessions.from_lists(cut), firsts)):
        other_ids, other_features = slice_features(other)
        assert np.array_equal(ids[rows], other_ids[rows])
        assert np.array_equal(features[rows], other_features[rows])
        assert not np.array_equal(features, other_features)


def test_the_held_out_sessions_reach_neither_the_encoder_nor_the_ranker(
    ring: Dataset, remembering: Config, tmp_path: Path
) -> None:
    known, held_out = ring.train.split_last(remembering.optimizer.validation_fraction)
    other = replace(ring, train=Sessions.concatenate([known, relabeled(held_out)]))
    a, b = (train(data, remembering, tmp_path / data.name, refit=False) for data in (ring, replace(other, name="b")))
    assert same(a.model, b.model)
    assert a.metrics != b.metrics


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
