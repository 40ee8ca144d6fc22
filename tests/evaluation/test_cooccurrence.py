"""Co-occurrence: equal to brute force, and settings that are refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation.cooccurrence import CoOccurrence, CoOccurrenceSettings
from tests.support.evaluation.lists import N, best_first, session_lists


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
