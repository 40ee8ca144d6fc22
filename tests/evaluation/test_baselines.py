"""The baselines against brute force and published figures, the search for their settings, and how fast they forget."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation import Evaluated, evaluate, ranks_of
from mtaw_fast.evaluation.baselines import OwnFrequent, OwnRecent, Popularity, tune_co_occurrence
from mtaw_fast.evaluation.cooccurrence import CoOccurrence, CoOccurrenceSettings
from mtaw_fast.evaluation.decayed import DecayedCounts
from mtaw_fast.evaluation.metrics import gains_of, means_of
from tests.support.cache import ROOT
from tests.support.evaluation.lists import N, best_first, session_lists


def listed(ranker: Evaluated, session: list[int], k: int) -> list[int]:
    ids, scores = ranker.rank(Sessions.from_lists([session]), k)
    assert ids.dtype == np.int32
    assert scores.dtype == np.float32
    assert ids.shape == scores.shape == (1, k)
    assert np.array_equal(ids < 0, np.isneginf(scores))
    assert np.all(scores[:, 1:] <= scores[:, :-1])
    return [item for item in ids[0].tolist() if item >= 0]


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


@pytest.fixture(scope="module")
def log() -> Sessions:
    """Sessions along a ring of 60 items that sometimes return to an own item."""
    generator = np.random.default_rng(0)
    sessions = []
    for _ in range(400):
        session = [int(generator.integers(60))]
        for _ in range(int(generator.integers(1, 9))):
            is_repeat = generator.random() < 0.3
            step = (session[-1] + int(generator.integers(1, 4))) % 60
            session.append(int(generator.choice(session)) if is_repeat else step)
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


def test_tuning_finds_what_the_sessions_hold(log: Sessions) -> None:
    train, validation = log.split_last(0.2)
    samples = Samples.from_sessions(validation, 1)
    tuned = tune_co_occurrence(train, samples, 60)

    def value(ranker: Evaluated) -> float:
        metrics = evaluate(ranker, samples).metrics
        return metrics["P@20"] + metrics["MRR@20"]

    assert value(tuned) >= value(CoOccurrence.fit(train, 60))
    assert value(tuned) > max(value(kind.fit(train, 60)) for kind in (Popularity, OwnRecent, OwnFrequent))
    # The winner has the counts of `train` alone, so the caller must fit it again on everything.
    refitted = CoOccurrence.fit(train, 60, tuned.settings)
    assert np.array_equal(refitted.weights, tuned.weights)
    assert np.array_equal(ranks_of(refitted, samples), ranks_of(tuned, samples))


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
    ("name", "recent", "frequent"),
    [
        pytest.param("tmall", (45.27, 18.47), (45.28, 22.69), marks=pytest.mark.long(caught="here, on the other set")),
        ("retailrocket", (38.14, 25.87), (38.14, 26.00)),
    ],
)
def test_published_yardsticks(name: str, recent: tuple[float, float], frequent: tuple[float, float]) -> None:
    """Own items reproduce published figures to the digit, co-occurrence its record with the settings chosen then."""
    sessions, samples, n_items, _ = _real(name)
    assert means_of_ranker(OwnRecent.fit(sessions, n_items), samples) == pytest.approx(recent, abs=0.006)
    assert means_of_ranker(OwnFrequent.fit(sessions, n_items), samples) == pytest.approx(frequent, abs=0.006)
    lines = (ROOT / "docs/results/quality.jsonl").read_text().splitlines()
    records = {record["name"]: record for record in map(json.loads, lines)}
    record = records[f"{name}-baseline-co-occurrence-repeats-test"]
    ranker = CoOccurrence.fit(sessions, n_items, CoOccurrenceSettings(**record["settings"]))
    expected = record["metrics"]["P@20"], record["metrics"]["MRR@20"]
    assert means_of_ranker(ranker, samples) == pytest.approx(expected, abs=1e-6)


def means_of_ranker(ranker: Evaluated, samples: Samples) -> tuple[float, float]:
    metrics = means_of(gains_of(ranks_of(ranker, samples)))
    return metrics["P@20"], metrics["MRR@20"]


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


@pytest.mark.parametrize(
    "bad",
    [{"window": 0}, {"backward": -1.0}, {"popularity": -0.1}, {"decay": 0.0}, {"bonus": -1.0}, {"own_decay": 2.0}],
)
def test_settings_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(bad))):
        CoOccurrenceSettings(**bad)  # type: ignore[arg-type]


HALF_LIFE = 1000.0


@pytest.mark.parametrize("pause", [3, 150, 201, 5000])
def test_what_is_old_weighs_less_however_long_the_pause(pause: int) -> None:
    """Also when the origin of the weights moves, and when counts have underflowed."""
    counts = DecayedCounts(HALF_LIFE)
    for _ in range(5):
        counts.click(1, [0], 0)
    counts.click(2, [0], round(pause * HALF_LIFE))
    counts.click(3, [], round((pause + 1) * HALF_LIFE))
    ids, scores = counts.co_occurring([0], 4, set())
    assert ids.tolist()[:1] == [2], "a pair of 2^3 half-lives ago weighs less than one, five times or not"
    popular, weights = counts.popular(2, set())
    assert popular.tolist() == [3, 2]
    assert weights[0] == pytest.approx(2 * weights[1])
    if pause == 3:
        assert ids.tolist() == [2, 1, 3]
        assert scores[0] == pytest.approx(scores[1] * 8 / 5)


def test_co_occurring_items_come_before_popular_ones_without_excluded_items() -> None:
    counts = DecayedCounts(math.inf)
    for _ in range(9):
        counts.click(2000, [], 0)  # beyond the initial capacity
    counts.click(5, [4], 0)
    ids, scores = counts.co_occurring([4], 3, set())
    assert ids.tolist() == [5, 2000]
    assert scores[0] > 0 > scores[1]
    assert counts.co_occurring([4], 3, {5})[0].tolist() == [2000]
    assert counts.popular(3, {2000})[0].tolist() == [5]
    assert counts.co_occurring([5], 3, set())[0].tolist() == [4, 2000, 5], "backwards counts half, but counts"
    assert np.isfinite(scores).all()
