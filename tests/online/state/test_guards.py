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
from tests.support.online.recommenders import HOUR, MODEL, NOON, N, answers, drawn, until_learned

MINUTE = 60_000
LIMITS = LearningLimits()


def learned_of(guard: FloodGuard, clicks: int, minutes: int, item: str = "spam") -> int:
    """Return how many of so many visits to one item, spread over so many minutes, are learned."""
    times = NOON + np.linspace(0, minutes * MINUTE, clicks, endpoint=False).astype(int)
    return sum(learns(guard, item, time) for time in times.tolist())


def learns(guard: FloodGuard, item: int | str, time: int, visits: int = 1) -> bool:
    """Return whether a visit of a new session is learned, and count it then."""
    is_learned = guard.admits(item, time)
    if is_learned:
        guard.count(time, item, visits, time)
    return is_learned


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
    def after(visits_a_session: int) -> int:
        guard = FloodGuard(LIMITS)
        for minute in range(1440):
            for visit in range(1, visits_a_session + 1):
                guard.count(minute, visit, visit, NOON + minute * MINUTE + 300 * visit)
        return sum(learns(guard, "spam", NOON + DAY_MS + 120 * MINUTE + n) for n in range(1000))

    assert after(3) <= LIMITS.item_floor, "sessions of few visits alone raised the bound"
    # A minute brings 150 visits. The estimate looks back three days, of which there was one.
    assert after(150) == pytest.approx(0.3 * 150 * (1 - np.exp(-1 / 3)), rel=0.2)


def test_a_share_counts_wherever_in_a_session_an_item_stands_and_only_what_is_learned() -> None:
    guard = FloodGuard(LIMITS)
    for session in range(20):
        for visit in range(1, 4):
            guard.count(session, f"filler-{session}-{visit}", visit, NOON)
    learned = sum(learns(guard, "spam", NOON + session, visits=4) for session in range(200))
    assert learned == 25, "of 60 other visits, 25 more on one item are 30%"
    assert learns(guard, "another", NOON + 500), "what was refused takes of no allowance"


def test_a_session_that_is_forgotten_gives_its_share_back() -> None:
    guard = FloodGuard(LIMITS)
    for turn in range(100):
        assert learns(guard, "spam", NOON + turn)
        guard.release(NOON + turn)
    assert learned_of(guard, 10, 0) == LIMITS.item_floor


def test_new_items_are_a_share_of_the_visits() -> None:
    guard = FloodGuard(LIMITS)
    entered = 0
    for number in range(2000):
        if guard.admits_new(NOON):
            guard.enter()
            entered += 1
        guard.count(number, number, 1, NOON)
    assert entered == 0.05 * 2000
    fresh = FloodGuard(LIMITS)
    assert sum(fresh.admits_new(NOON) and fresh.enter() is None for _ in range(100)) == LIMITS.new_floor


def flood_state(guard: FloodGuard) -> dict[str, list[int]]:
    return {name: array.tolist() for name, array in guard.state().items()}


def test_a_restart_continues_where_the_guards_were() -> None:
    rng = np.random.default_rng(1)
    clicks = [(int(item), NOON + 5_000 * n) for n, item in enumerate(6 * rng.random(400) ** 6)]
    whole, first = FloodGuard(LIMITS, 0.0001), FloodGuard(LIMITS, 0.0001)
    decided = [learns(whole, *click) for click in clicks]
    begin = [learns(first, *click) for click in clicks[:150]]
    second = FloodGuard(LIMITS)
    second.restore(first.state())
    assert begin + [learns(second, *click) for click in clicks[150:]] == decided
    assert flood_state(second) == flood_state(whole)
    assert 0 < sum(decided) < len(clicks)

    visits = [(int(item), rng.integers(0, 6, 3).tolist()) for item in rng.integers(6, 12, 600)]
    crowd, former = (CrowdGuard(LIMITS, np.full(9, 4, np.uint32), 100) for _ in range(2))
    decided = [crowd.admits(*visit, NOON) for visit in visits]
    begin = [former.admits(*visit, NOON) for visit in visits[:233]]
    latter = CrowdGuard(LIMITS, np.zeros(9, np.uint32), 7)
    latter.restore(former.state())
    assert begin + [latter.admits(*visit, NOON) for visit in visits[233:]] == decided
    assert 0 < sum(decided) < len(visits)


def test_sessions_that_bring_two_items_together_are_a_share_of_those_with_either() -> None:
    def admitted(others: int, of_two: int) -> int:
        guard = CrowdGuard(LIMITS, np.zeros(2, np.uint32), 2_000)
        for _ in range(others):
            assert guard.admits(0, [], NOON)
            assert guard.admits(1, [], NOON)
        return sum(guard.admits(0, [], NOON) and guard.admits(1, [0], NOON) for _ in range(of_two))

    assert admitted(0, 1000) == 2, "nobody but them: the floor"
    assert admitted(3, 1000) == 3, "as many as come without the other item"
    assert admitted(100, 1000) == 100
    assert admitted(100, 20) == 20
    # Either item alone does not help: the rarer one decides, whichever it is.
    for common in (0, 1):
        guard = CrowdGuard(LIMITS, np.zeros(2, np.uint32), 2_000)
        assert all(guard.admits(common, [], NOON) for _ in range(500))
        assert sum(guard.admits(1, [0], NOON) for _ in range(100)) == 2


@pytest.mark.parametrize(("visits_a_day", "least"), [(1_000, 2), (10_000, 10), (100_000, 100)])
def test_a_pair_may_have_a_thousandth_of_a_days_visits(visits_a_day: int, least: int) -> None:
    guard = CrowdGuard(LIMITS, np.zeros(2, np.uint32), visits_a_day)
    assert sum(guard.admits(1, [0], NOON) for _ in range(200)) == least


def test_a_session_that_is_forgotten_leaves_no_count() -> None:
    guard = CrowdGuard(LIMITS, np.zeros(40, np.uint32), 10_000)
    for _ in range(5):
        sessions = [[3, 9, 4], [9, 5, 3]]
        for session in sessions:
            assert all(guard.admits(item, session[:place][::-1], NOON) for place, item in enumerate(session))
        for session in sessions:
            guard.release(session, NOON + 1)
    state = guard.state()
    assert len(state["pair_cells"]) == state["visits"].sum() == 0


def test_pairs_are_forgotten_with_their_period() -> None:
    guard = CrowdGuard(LIMITS, np.zeros(40, np.uint32), 50)
    assert [guard.admits(1, [0], NOON) for _ in range(5)] == [True, True, False, False, False]
    for _ in range(2):
        assert all(guard.admits(item, [], NOON) for item in [*range(2, 27)] * 2)
    assert [guard.admits(1, [0], NOON) for _ in range(5)] == [True, True, False, False, False]


def test_forgetting_an_old_session_takes_nothing_of_the_visits_of_others() -> None:
    guard = CrowdGuard(LIMITS, np.full(40, 10, np.uint32), 4)
    for item in (1, 2, 3, 4):  # the counts are halved once
        guard.admits(item, [], NOON)
    before = guard.state()["visits"].tolist()
    guard.release([1, 2, 3, 4], NOON)
    assert guard.state()["visits"].tolist() == before
    guard.release([1], NOON + 1)
    assert guard.state()["visits"].tolist()[1] == before[1] - 1


def test_a_pair_is_refused_wherever_in_a_session_its_items_stand() -> None:
    guard = CrowdGuard(LIMITS, np.zeros(2_000, np.uint32), 2_000)
    learned = 0
    for session in range(100):
        others = [10 + 15 * session + place for place in range(15)]
        learned += guard.admits(1, [*others, 0], NOON)
    assert learned == 2, "with 15 other items between the two"


def test_trusted_visits_are_learned_and_counted() -> None:
    guard = CrowdGuard(LIMITS, np.zeros(2, np.uint32), 2_000)
    assert all(guard.admits(0, [], NOON, trusted=True) and guard.admits(1, [0], NOON, trusted=True) for _ in range(50))
    assert not guard.admits(1, [0], NOON)
    assert guard.usual([0, 1, -1]) == ([0.5, 0.5, -1.0], 2_000.0)


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
        period = guards.state()["crowd"].tolist()[0]
        assert period == pytest.approx(clicks, rel=0.12), "a day's visits"
        assert guards.state()["visits"].sum() == pytest.approx(2 * clicks, rel=0.12)
    untimed = Guards(MODEL, LIMITS)
    assert learned_of(untimed.flood, 1000, 1) <= LIMITS.item_floor


def test_old_times_switch_off_no_limit_and_a_rebuild_decides_the_same(learning: Callable[..., Recommender]) -> None:
    rec, begin = learning(), now_ms()
    rec.observe("first", ["sku-2"])
    rec.learner.append([Click(f"old{n}", f"sku-{n % N}", 1_764_150_000 + n) for n in range(9)])  # in seconds
    for step in range(3):  # times of many windows, to open a new one with each click
        rec.learner.append([Click(f"f{step}-{n}", "sku-39", now_ms() - n * MINUTE) for n in range(700)])
    last = rec.learner.append([Click("bot", f"sku-{n % N}", now_ms() - n * MINUTE // 4) for n in range(100)])
    until_learned(rec, last)
    tracker = rec.learner.state.event_processor.tracker
    assert tracker.refused["late"] == 0, "they count as of half an hour before their arrival"
    assert tracker.clock.now > now_ms() - HOUR
    windows = 2 + (now_ms() - begin) // MINUTE
    assert tracker.refused["flood"] >= 2100 - windows * LearningLimits().item_floor
    assert tracker.refused["bot"] == 100 - LearningLimits().burst_clicks
    rebuilt = learning()
    assert rebuilt.learner.state.event_processor.tracker.refused == tracker.refused
    assert answers(rebuilt, drawn(31, 30)) == answers(rec, drawn(31, 30))
