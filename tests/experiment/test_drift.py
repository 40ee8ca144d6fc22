"""Drift against the training: the shares against plain counts, silence without a change and an alarm with one."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from bench.experiment import hourly_drift
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import draw_sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.experiment.drift import GAPS_MS, LENGTHS, THRESHOLD, UNSEEN, DriftReference, drift_of


def test_the_shares_are_those_of_a_plain_count() -> None:
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, 40, rng.integers(1, 20)) for _ in range(400)]
    times = [np.sort(rng.integers(0, 2_000_000, len(session))) for session in lists]
    plain = Sessions.from_lists(lists)
    sessions = Sessions(plain.items, plain.offsets, np.concatenate(times).astype(np.int64))
    reference = DriftReference.of(sessions, 45)
    assert reference is not None
    lengths, repeats, gaps = Counter[int](), Counter[bool](), Counter[int]()
    for items, moments in zip(lists, times, strict=True):
        for place in range(1, len(items)):
            lengths[next((group for group, last in enumerate(LENGTHS) if place <= last), len(LENGTHS))] += 1
            repeats[items[place] in items[:place]] += 1
            pause = moments[place] - moments[place - 1]
            gaps[next((group for group, last in enumerate(GAPS_MS) if pause <= last), len(GAPS_MS))] += 1
    n = sum(repeats.values())
    for feature, counted in (("length", lengths), ("repeat", repeats), ("gap", gaps)):
        assert reference.shares[feature] == pytest.approx(
            [counted[group] / n for group in range(len(reference.shares[feature]))]
        )
    assert reference.shares["popularity"].sum() == pytest.approx(1)
    assert reference.shares["popularity"][:UNSEEN] == pytest.approx(np.full(10, 0.1), abs=0.03)
    groups = reference.groups_of_items(np.array([-1, 3, 44, 45, 99]))
    assert groups.tolist() == [UNSEEN, int(reference.popularity_group[3]), UNSEEN, UNSEEN, UNSEEN]


def test_the_most_clicked_items_are_in_the_first_group_and_single_clicks_foretell_unseen_ones() -> None:
    sessions = Sessions.from_lists([[9, 0]] * 50 + [[9, 1]] * 30 + [[9, item] for item in range(2, 22)])
    reference = DriftReference.of(sessions, 30)
    assert reference is not None
    assert reference.popularity_group[0] < reference.popularity_group[1] < reference.popularity_group[5]
    assert reference.popularity_group[25] == UNSEEN
    assert reference.shares["popularity"][UNSEEN] == pytest.approx(0.2)  # 20 of 100 clicks were an item's only one
    assert DriftReference.of(Sessions.from_lists([[1], [2]]), 3) is None
    assert DriftReference.of(Sessions.from_lists([]), 3) is None


def test_the_index_is_worked_by_hand() -> None:
    expected = (0.7 - 0.5) * math.log(0.7 / 0.5) + (0.3 - 0.5) * math.log(0.3 / 0.5)
    assert drift_of([70, 30], np.array([0.5, 0.5])) == pytest.approx(expected)
    assert drift_of([50, 50], np.array([0.5, 0.5])) == 0
    assert drift_of([100, 0], np.array([1.0, 0.0])) == 0


def test_a_stationary_log_is_silent_and_a_new_assortment_is_not() -> None:
    n_items = 600
    drawn = draw_sessions(n_items, 12_000, 1)
    times = np.repeat(np.arange(len(drawn)) * 60_000, drawn.lengths).astype(np.int64)
    sessions = Sessions(drawn.items, drawn.offsets, times + 30_000 * np.arange(len(times)) % 60_000)
    reference, hours = hourly_drift(sessions, n_items, int(times[len(times) * 2 // 3]))
    assert len(hours) > 5
    assert max(hour.drift["popularity"] for hour in hours) < THRESHOLD / 2
    assert max(reference.usual.values()) < THRESHOLD
    items = sessions.items.copy()
    late = times > times[len(times) * 5 // 6]
    items[late] = (items[late] * 7 + 11) % n_items
    _, changed = hourly_drift(Sessions(items, drawn.offsets, sessions.times), n_items, int(times[len(times) * 2 // 3]))
    assert changed[0].drift["popularity"] < THRESHOLD < changed[-1].drift["popularity"]


def test_a_log_too_short_for_a_window_is_named() -> None:
    times = np.repeat(np.arange(100) * 60_000, 2).astype(np.int64)
    sessions = Sessions(np.zeros(200, np.int32), 2 * np.arange(101), times)
    with pytest.raises(UsageError, match="no window of 1,000 clicks after the training"):
        hourly_drift(sessions, 1, int(times[-1]) + 1)
    with pytest.raises(UsageError, match="no session of two clicks before the end of the training"):
        hourly_drift(sessions, 1, 0)


def test_hours_that_always_differ_raise_the_level() -> None:
    """Day and night click on different items: an hour is unlike the whole, and that is usual."""
    rng = np.random.default_rng(2)
    hours = np.repeat(np.arange(48), 1_500)
    night = hours % 24 >= 12
    pairs = np.where(night, rng.integers(10, 120, (2, len(hours))), rng.integers(0, 10, (2, len(hours)))).T
    times = np.repeat(hours * 3_600_000, 2) + np.tile([0, 5_000], len(hours))
    sessions = Sessions(pairs.ravel().astype(np.int32), 2 * np.arange(len(hours) + 1), times.astype(np.int64))
    reference = DriftReference.of(sessions, 120)
    assert reference is not None
    assert reference.usual["popularity"] > THRESHOLD
    assert reference.usual["length"] == reference.usual["gap"] == 0
