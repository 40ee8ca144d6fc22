"""The guards against colluding sessions, bots and wrong clocks, at any size of shop and after a restart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Model
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.memory import MemoryTables
from mtaw_fast.online.log.events import Click, now_ms
from mtaw_fast.online.settings import DAY_MS, LearningLimits
from mtaw_fast.online.state.guards import CrowdGuard, FloodGuard, Guards
from mtaw_fast.online.state.session_tracker import SessionTracker
from tests.support.online.recommenders import HOUR, MODEL, NOON, N, answers, drawn, until_learned

MINUTE = 60_000
LIMITS = LearningLimits()


def learned_of(guard: FloodGuard, clicks: int, minutes: int, item: str = "spam") -> int:
    """Return how many of so many clicks on one item, spread over so many minutes, are learned_of."""
    times = NOON + np.linspace(0, minutes * MINUTE, clicks, endpoint=False).astype(int)
    return sum(guard.admits(item, time) for time in times.tolist())


@pytest.mark.parametrize("per_day", [1_000, 10_000, 100_000, 1_000_000])
def test_what_a_flood_moves_is_a_share_of_the_long_run_traffic(per_day: int) -> None:
    hours = 24
    count = learned_of(FloodGuard(LIMITS, per_day / DAY_MS), 20_000 if per_day < 500_000 else 600_000, hours * 60)
    assert count <= 0.3 * per_day * hours / 24 * 1.4 + LIMITS.item_floor, "more than the share"
    assert count >= 0.3 * per_day * hours / 24 * 0.5, "far less than the share"


def test_a_burst_is_learned_up_to_the_floor_of_a_small_shop_or_a_minute_of_a_large_one() -> None:
    assert learned_of(FloodGuard(LIMITS, 3_700 / DAY_MS), 1000, 1) == LIMITS.item_floor
    assert learned_of(FloodGuard(LIMITS, 1_000_000 / DAY_MS), 1000, 1) == pytest.approx(0.3 * 1_000_000 / 1440, abs=2)


def test_the_long_run_traffic_follows_proven_sessions_and_no_others() -> None:
    def after(clicks_a_session: int) -> int:
        guard = FloodGuard(LIMITS)
        tracker = SessionTracker(LIMITS, flood=guard)
        for minute in range(1440):
            begin = NOON + minute * MINUTE
            clicks = [Click(f"s{minute}", n, begin + 500 * n, arrived=begin + 500 * n) for n in range(clicks_a_session)]
            list(tracker.batches(clicks))
        return sum(guard.admits("spam", NOON + DAY_MS + 120 * MINUTE + n) for n in range(1000))

    assert after(3) <= LIMITS.item_floor, "sessions of fresh clicks alone raised the bound"
    # A minute brings 150 clicks. The estimate looks back three days, of which there was one.
    assert after(150) == pytest.approx(0.3 * 150 * (1 - np.exp(-1 / 3)), rel=0.2)


def flood_state(guard: FloodGuard) -> dict[str, list[int]]:
    return {name: array.tolist() for name, array in guard.state().items()}


def test_a_restart_continues_where_the_guards_were() -> None:
    rng = np.random.default_rng(1)
    clicks = [(int(item), NOON + 5_000 * n) for n, item in enumerate(6 * rng.random(400) ** 6)]
    whole, first = FloodGuard(LIMITS, 0.0001), FloodGuard(LIMITS, 0.0001)
    decided = [whole.admits(*click) for click in clicks]
    begin = [first.admits(*click) for click in clicks[:150]]
    second = FloodGuard(LIMITS)
    second.restore(first.state())
    assert begin + [second.admits(*click) for click in clicks[150:]] == decided
    assert flood_state(second) == flood_state(whole)
    assert 0 < sum(decided) < len(clicks)

    visits = [(int(item), rng.integers(0, 6, 3).tolist()) for item in rng.integers(6, 12, 600)]
    crowd, former = (CrowdGuard(LIMITS, np.full(9, 4, np.uint32), 100) for _ in range(2))
    decided = [crowd.admits(*visit) for visit in visits]
    begin = [former.admits(*visit) for visit in visits[:233]]
    latter = CrowdGuard(LIMITS, np.zeros(9, np.uint32), 7)
    latter.restore(former.state())
    assert begin + [latter.admits(*visit) for visit in visits[233:]] == decided
    assert 0 < sum(decided) < len(visits)


def test_sessions_that_bring_two_items_together_are_a_share_of_those_with_either() -> None:
    def admitted(others: int, of_two: int) -> int:
        guard = CrowdGuard(LIMITS, np.zeros(2, np.uint32), 2_000)
        for _ in range(others):
            assert guard.admits(0, [])
            assert guard.admits(1, [])
        return sum(guard.admits(0, []) and guard.admits(1, [0]) for _ in range(of_two))

    assert admitted(0, 1000) == 2, "nobody but them: the floor"
    assert admitted(3, 1000) == 3, "as many as come without the other item"
    assert admitted(100, 1000) == 100
    assert admitted(100, 20) == 20
    # Either item alone does not help: the rarer one decides, whichever it is.
    for common in (0, 1):
        guard = CrowdGuard(LIMITS, np.zeros(2, np.uint32), 2_000)
        assert all(guard.admits(common, []) for _ in range(500))
        assert sum(guard.admits(1, [0]) for _ in range(100)) == 2


@pytest.mark.parametrize(("visits_a_day", "least"), [(1_000, 2), (10_000, 10), (100_000, 100)])
def test_a_pair_may_have_a_thousandth_of_a_days_visits(visits_a_day: int, least: int) -> None:
    guard = CrowdGuard(LIMITS, np.zeros(2, np.uint32), visits_a_day)
    assert sum(guard.admits(1, [0]) for _ in range(200)) == least


def test_a_session_that_is_forgotten_leaves_no_count() -> None:
    guard = CrowdGuard(LIMITS, np.zeros(40, np.uint32), 10_000)
    for _ in range(5):
        sessions = [[3, 9, 4], [9, 5, 3]]
        for session in sessions:
            assert all(guard.admits(item, session[:place][::-1]) for place, item in enumerate(session))
        for session in sessions:
            guard.release(session)
    state = guard.state()
    assert len(state["pair_cells"]) == state["visits"].sum() == 0


def test_pairs_are_forgotten_with_their_period() -> None:
    guard = CrowdGuard(LIMITS, np.zeros(40, np.uint32), 50)
    assert [guard.admits(1, [0]) for _ in range(5)] == [True, True, False, False, False]
    for _ in range(2):
        assert all(guard.admits(item, []) for item in [*range(2, 27)] * 2)
    assert [guard.admits(1, [0]) for _ in range(5)] == [True, True, False, False, False]


def timed_model(clicks_a_day: int, days: int) -> Model:
    rng = np.random.default_rng(2)
    count = clicks_a_day * days // 5
    past = Sessions.from_lists([rng.integers(0, N, 5) for _ in range(count)])
    starts = np.repeat(NOON - days * DAY_MS + np.arange(count) * (days * DAY_MS // count), 5)
    past = replace(past, times=starts + np.tile(1000 * np.arange(5), count))
    return replace(MODEL, memory=MemoryTables.build(past.without_times(), N), clicked_at=past.times, trends=None)


def test_guards_start_from_what_the_bundle_was_trained_on() -> None:
    few, many = (Guards(timed_model(clicks, 10), LIMITS) for clicks in (1_000, 4_000))
    assert learned_of(few.flood, 5000, 1440) == pytest.approx(300, rel=0.4)
    assert learned_of(many.flood, 5000, 1440) == pytest.approx(1200, rel=0.4)
    for guards, clicks in ((few, 1_000), (many, 4_000)):
        period, _ = guards.state()["crowd"].tolist()
        assert period == pytest.approx(clicks, rel=0.12), "a day's visits"
        assert guards.state()["visits"].sum() == pytest.approx(2 * clicks, rel=0.12)
    untimed = Guards(MODEL, LIMITS)
    assert learned_of(untimed.flood, 1000, 1) <= LIMITS.item_floor


def test_old_times_switch_off_no_limit_and_a_rebuild_decides_the_same(learning: Callable[..., Recommender]) -> None:
    rec, begin = learning(), now_ms()
    rec.observe("first", ["sku-2"])
    rec.learner.append([Click(f"old{n}", "sku-1", 1_764_150_000 + n) for n in range(200)])  # in seconds
    for step in range(3):  # times of many windows, to open a new one with each click
        rec.learner.append([Click(f"f{step}-{n}", "sku-39", now_ms() - n * MINUTE) for n in range(700)])
    last = rec.learner.append([Click("bot", f"sku-{n % N}", now_ms() - n * MINUTE // 4) for n in range(100)])
    until_learned(rec, last)
    tracker = rec.learner.state.event_processor.tracker
    assert tracker.refused["late"] == 200
    assert tracker.clock.now > now_ms() - HOUR
    windows = 2 + (now_ms() - begin) // MINUTE
    assert tracker.refused["flood"] >= 2100 - windows * LearningLimits().item_floor
    assert tracker.refused["bot"] == 100 - LearningLimits().burst_clicks
    rebuilt = learning()
    assert rebuilt.learner.state.event_processor.tracker.refused == tracker.refused
    assert answers(rebuilt, drawn(31, 30)) == answers(rec, drawn(31, 30))
