from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.ranked_lists import merge, top_k
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation import Evaluated, evaluate, ranks_of
from mtaw_fast.evaluation.baselines import OwnFrequent, OwnRecent, Popularity, fit_baselines, tune_co_occurrence
from mtaw_fast.evaluation.cooccurrence import CoOccurrence, CoOccurrenceSettings
from mtaw_fast.evaluation.metrics import gains_of, means_of

N = 12
session_lists = st.lists(st.lists(st.integers(0, N - 1), min_size=0, max_size=9), min_size=0, max_size=8)


def listed(ranker: Evaluated, session: list[int], k: int) -> list[int]:
    ids, scores = ranker.rank(Sessions.from_lists([session]), k)
    assert ids.dtype == np.int32
    assert scores.dtype == np.float32
    assert ids.shape == scores.shape == (1, k)
    assert np.array_equal(ids < 0, np.isneginf(scores))
    assert np.all(scores[:, 1:] <= scores[:, :-1])
    return [item for item in ids[0].tolist() if item >= 0]


def best_first(scores: dict[int, float], k: int) -> list[int]:
    return sorted(scores, key=lambda item: (-np.float32(scores[item]), item))[:k]


@given(session_lists, st.integers(1, 15))
@settings(max_examples=60, deadline=None)
def test_popularity_counts_clicks(sessions: list[list[int]], k: int) -> None:
    counts = Counter(item for session in sessions for item in session)
    ranker = Popularity.fit(Sessions.from_lists(sessions), N)
    assert listed(ranker, [3], k) == best_first({item: counts[item] for item in range(N)}, k)


@given(st.lists(st.integers(0, N - 1), max_size=40), st.integers(1, 15))
@settings(max_examples=100, deadline=None)
def test_own_items(session: list[int], k: int) -> None:
    recent = list(dict.fromkeys(reversed(session)))
    frequent = sorted(recent, key=lambda item: -session.count(item))  # stable: the recent first among equals
    nothing = Sessions.from_lists([])
    assert listed(OwnRecent.fit(nothing, N), session, k) == recent[:k]
    assert listed(OwnFrequent.fit(nothing, N), session, k) == frequent[:k]


def brute_force_near(sessions: list[list[int]], s: CoOccurrenceSettings) -> np.ndarray:
    counts = np.zeros((N, N))
    for session in sessions:
        for i, a in enumerate(session):
            for j in range(i + 1, min(i + s.window, len(session) - 1) + 1):
                if session[j] != a:
                    counts[a, session[j]] += 1 / (j - i)
                    counts[session[j], a] += s.backward / (j - i)
    clicks = np.bincount([item for session in sessions for item in session], minlength=N)
    return counts / (counts.sum(axis=1, keepdims=True) + 1) / (clicks + 1.0) ** s.popularity


@given(
    session_lists,
    st.lists(st.integers(0, N - 1), max_size=12),
    st.integers(1, 15),
    st.builds(
        CoOccurrenceSettings,
        window=st.integers(1, 12),
        backward=st.sampled_from([0.0, 0.5, 1.0]),
        popularity=st.sampled_from([0.0, 0.5]),
        decay=st.sampled_from([0.5, 0.9]),
        bonus=st.sampled_from([0.0, 0.01, 1.0]),
        own_decay=st.sampled_from([0.7, 1.0]),
    ),
)
@settings(max_examples=150, deadline=None)
def test_co_occurrence_equals_brute_force(
    sessions: list[list[int]], prefix: list[int], k: int, chosen: CoOccurrenceSettings
) -> None:
    near = brute_force_near(sessions, chosen)
    scores = np.zeros(N)
    reached = set(prefix)
    for age, click in enumerate(reversed(prefix)):
        scores += chosen.decay**age * near[click]
        scores[click] += chosen.bonus * chosen.own_decay**age
        reached |= {item for s in sessions for i, a in enumerate(s) if a == click
                    for j, item in enumerate(s) if 0 < abs(i - j) <= chosen.window and item != click}  # fmt: skip
    for click in set(prefix):
        scores[click] += chosen.bonus
    ids, got = CoOccurrence.fit(Sessions.from_lists(sessions), N, chosen).rank(Sessions.from_lists([prefix]), k)
    n_listed = min(k, len(reached))
    assert set(ids[0, :n_listed].tolist()) <= reached
    # Sums in another order differ in their last bits, so items are compared through their scores.
    assert got[0, :n_listed] == pytest.approx(scores[ids[0, :n_listed]], rel=1e-6, abs=1e-9)
    assert got[0, :n_listed] == pytest.approx(np.sort(scores[list(reached)])[::-1][:k], rel=1e-6, abs=1e-9)
    clicks = Counter(item for session in sessions for item in session)
    rest = best_first({item: clicks[item] for item in range(N) if item not in reached}, N)
    assert ids[0, n_listed : min(k, N)].tolist() == rest[: min(k, N) - n_listed]
    assert np.all(got[0, n_listed : min(k, N)] < 0)
    assert np.all(ids[0, N:] == -1)


@pytest.fixture(scope="module")
def log() -> Sessions:
    """Sessions along a ring of 60 items that sometimes return to an own item."""
    generator = np.random.default_rng(0)
    sessions = []
    for _ in range(400):
        session = [int(generator.integers(60))]
        for _ in range(int(generator.integers(1, 9))):
            back = generator.random() < 0.3
            step = (session[-1] + int(generator.integers(1, 4))) % 60
            session.append(int(generator.choice(session)) if back else step)
        sessions.append(session)
    return Sessions.from_lists(sessions)


@pytest.mark.parametrize("kind", [Popularity, OwnRecent, OwnFrequent, CoOccurrence])
def test_scores_do_not_depend_on_the_batch_or_its_order(
    kind: type[Popularity] | type[OwnRecent] | type[OwnFrequent] | type[CoOccurrence], log: Sessions
) -> None:
    ranker = kind.fit(log, 60)
    prefixes = Samples.from_sessions(log.slice(0, 60), 1).prefixes
    ids, scores = ranker.rank(prefixes, 21)
    order = np.random.default_rng(1).permutation(len(prefixes))
    again_ids, again_scores = ranker.rank(prefixes.select(order), 21)
    assert np.array_equal(again_ids, ids[order])
    assert np.array_equal(again_scores, scores[order])
    for row in range(0, len(prefixes), 5):
        one_ids, one_scores = ranker.rank(prefixes.slice(row, row + 1), 21)
        assert np.array_equal(one_ids[0], ids[row])
        assert np.array_equal(one_scores[0], scores[row])


@pytest.mark.parametrize("kind", [Popularity, OwnRecent, OwnFrequent, CoOccurrence])
def test_no_session_and_an_empty_session(
    kind: type[Popularity] | type[OwnRecent] | type[OwnFrequent] | type[CoOccurrence], log: Sessions
) -> None:
    ranker = kind.fit(log, 60)
    ids, scores = ranker.rank(Sessions.from_lists([]), 5)
    assert ids.shape == scores.shape == (0, 5)
    expected = [] if kind in (OwnRecent, OwnFrequent) else listed(Popularity.fit(log, 60), [], 5)
    assert listed(ranker, [], 5) == expected


def test_tuning_finds_what_the_sessions_hold(log: Sessions) -> None:
    train, validation = log.split_last(0.2)
    samples = Samples.from_sessions(validation, 1)
    seen: list[tuple[int, int]] = []
    tuned = tune_co_occurrence(train, samples, 60, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 39) for i in range(1, 40)]

    def value(ranker: Evaluated) -> float:
        metrics = evaluate(ranker, samples).metrics
        return metrics["P@20"] + metrics["MRR@20"]

    assert value(tuned) >= value(CoOccurrence.fit(train, 60))
    assert value(tuned) > max(value(kind.fit(train, 60)) for kind in (Popularity, OwnRecent, OwnFrequent))
    # The winner has the counts of `train` alone, so the caller must fit it again on everything.
    again = CoOccurrence.fit(train, 60, tuned.settings)
    assert np.array_equal(again.weights, tuned.weights)
    assert np.array_equal(ranks_of(again, samples), ranks_of(tuned, samples))


def test_baselines_are_fitted_on_the_sessions_asked_for(log: Sessions) -> None:
    train, validation = log.split_last(0.2)
    rankers = fit_baselines(log, train, validation, 1, 60)
    assert len(rankers) == 4
    popularity = next(ranker for ranker in rankers.values() if isinstance(ranker, Popularity))
    assert popularity.counts.sum() == log.n_clicks
    pairs = next(ranker for ranker in rankers.values() if isinstance(ranker, CoOccurrence))
    tuned = tune_co_occurrence(train, Samples.from_sessions(validation, 1), 60).settings
    assert pairs.settings == tuned
    assert np.array_equal(pairs.weights, CoOccurrence.fit(log, 60, tuned).weights)


@pytest.mark.parametrize(
    "bad",
    [{"window": 0}, {"backward": -1.0}, {"popularity": -0.1}, {"decay": 0.0}, {"bonus": -1.0}, {"own_decay": 2.0}],
)
def test_settings_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(bad))):
        CoOccurrenceSettings(**bad)  # type: ignore[arg-type]


finite = st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([0.0, -0.0, 1.0, -np.inf, np.inf])


@given(st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 9)), finite, max_size=40), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_top_k_sorts_each_row(candidates: dict[tuple[int, int], float], k: int) -> None:
    entries = sorted((row, item, score) for (row, item), score in candidates.items())
    columns = [np.array(column) for column in zip(*entries, strict=True)] or [np.empty(0, np.int64)] * 3
    ids, scores = top_k(columns[0].astype(np.int64), columns[1].astype(np.int64), columns[2].astype(np.float64), 5, k)
    for row in range(5):
        own = {item: score for r, item, score in entries if r == row}
        expected = best_first(own, k)
        assert ids[row].tolist() == expected + [-1] * (k - len(expected))
        assert scores[row].tolist() == [own[item] for item in expected] + [-np.inf] * (k - len(expected))


def test_merge_adds_in_the_order_of_the_entries() -> None:
    rows = np.array([1, 0, 1, 1, 0])
    rows, items, scores = merge(rows, np.array([2, 5, 2, 1, 5]), np.array([1e17, 1.0, 1.0, 4.0, 2.0]), 6)
    assert rows.tolist() == [0, 1, 1]
    assert items.tolist() == [5, 1, 2]
    assert scores.tolist() == [3.0, 4.0, 1e17 + 1.0]


def _real(name: str) -> tuple[Sessions, Samples, int, int]:
    root = os.environ.get("MTAW_DATA")
    if not root:
        pytest.skip("MTAW_DATA is not set: it names the folder that holds tmall/ and retailrocket/")
    with np.load(Path(root) / name / "train.npz") as train, np.load(Path(root) / name / "test.npz") as test:
        sessions = Sessions(train["items"] - 1, train["offsets"].astype(np.int64))
        prefixes = Sessions(test["items"] - 1, test["offsets"].astype(np.int64))
        samples = Samples(prefixes, test["labels"] - 1, test["session"])
        return sessions, samples, int(train["n_items"]), int(train["min_prefix"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "recent", "frequent", "pairs"),
    [
        ("tmall", (45.27, 18.47), (45.28, 22.69), (50.9, 22.4)),
        ("retailrocket", (38.14, 25.87), (38.14, 26.00), (56.9, 29.7)),
    ],
)
def test_published_yardsticks(
    name: str, recent: tuple[float, float], frequent: tuple[float, float], pairs: tuple[float, float]
) -> None:
    """Own items reproduce the published figures to the digit; co-occurrence reaches at least `pairs`."""
    sessions, samples, n_items, min_prefix = _real(name)
    rankers = fit_baselines(sessions, *sessions.split_last(0.02), min_prefix, n_items)
    metrics = {type(ranker): means_of_ranker(ranker, samples) for ranker in rankers.values()}
    assert metrics[OwnRecent] == pytest.approx(recent, abs=0.006)
    assert metrics[OwnFrequent] == pytest.approx(frequent, abs=0.006)
    assert metrics[CoOccurrence][0] >= pairs[0]
    assert metrics[CoOccurrence][1] >= pairs[1]


def means_of_ranker(ranker: Evaluated, samples: Samples) -> tuple[float, float]:
    metrics = means_of(gains_of(ranks_of(ranker, samples)))
    return metrics["P@20"], metrics["MRR@20"]
