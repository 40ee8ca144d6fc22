"""Colluding sessions move an item no further than the long-run traffic allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from bench.live.inputs import MORNING, make_shop
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import Click, Event, Forget
from mtaw_fast.online.origin_guard import OriginGuard
from mtaw_fast.online.settings import DAY_MS, LearningLimits
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.options import Conditions
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import NativeIndex

TOP = 20
NOON = 1_764_150_000_000


class Attack(NamedTuple):
    """What colluding sessions achieved: the rank of B for the visitors of A, and how many clicks were learned."""

    visitors: int
    learned: int


class Shop:
    """A shop of 3,700 clicks a day, if its past is taken to be a month. Colluders click A and then B."""

    def __init__(self) -> None:
        self.model = make_shop(2_000, 111_000, 10).model
        self.encoder = NativeEncoder(self.model.config, self.model.weights)
        self.index = NativeIndex(self.model.item_vectors, self.model.scan)
        self.target = int(np.argsort(-self.model.popularity, kind="stable")[20])
        self.promoted = int(self.ranked(OnlineState(self.model, LearningLimits()), MORNING)[547])  # far down A's list

    def attack(self, colluders: int, repeats: int = 1) -> Attack:
        """Attack the shop as it was before any attack; repeats: of both clicks, by each session."""
        pair = (self.target, self.promoted) * repeats
        return self.sent([(f"colluder-{colluder}", item) for colluder in range(colluders) for item in pair])

    def sent(self, visits: Sequence[tuple[str, int]], origin: str | None = None, ago: int = 0) -> Attack:
        """Send clicks, one every 10 s, each second one with a time so long ago; origin: of all of them."""
        state, guard, moment = OnlineState(self.model, LearningLimits()), OriginGuard(LearningLimits()), MORNING
        for event, (session, item) in enumerate(visits):
            moment += 10_000
            clicks = [Click(session, item + 1, moment - ago * (event % 2), arrived=moment)]
            if origin is not None:
                clicks = guard.judged(guard.origin_of(origin), clicks, state.event_processor.usual_visits, moment)
            state.apply([LogEntry(click, f"{event:010d}-000000000000") for click in clicks])
        place = int(np.flatnonzero(self.ranked(state, moment) == self.promoted)[0])
        return Attack(1 + place, state.event_processor.learned_clicks)

    def ranked(self, state: OnlineState, at: int) -> np.ndarray:
        """Return the ids of all items as visitors of A see them."""
        pipeline = Pipeline.of(state.catalog(), self.encoder, self.index)
        queries = Sessions(np.array([self.target], np.int32), np.array([0, 1]), np.array([at], np.int64))
        return pipeline.rank(queries, self.model.n_items, Conditions(at=at))[0][0]


def test_neither_many_clicks_of_one_session_nor_many_sessions_bring_an_item_to_a_top_list() -> None:
    shop = Shop()
    once, often, few, many = shop.attack(1), shop.attack(1, repeats=100), shop.attack(5), shop.attack(300)
    assert often.learned > 10 * once.learned
    # The number of clicks on an item, of which the logarithm is a feature, is what repeats still raise: they do a
    # fiftieth of what the first visit does.
    assert abs(often.visitors - once.visitors) <= (548 - once.visitors) / 50
    assert many.learned <= 300 + few.learned, "clicks on B beyond the share were learned"
    assert min(attack.visitors for attack in (once, often, few, many)) > TOP


def test_one_id_is_worth_one_visit_whatever_it_says_of_time() -> None:
    shop = Shop()
    rng = np.random.default_rng(3)
    once = shop.sent([("id", shop.target), ("id", shop.promoted)])
    fillers = rng.choice(2_000, 60, replace=False).tolist()
    for visits in (
        [("id", item) for _ in range(20) for item in (shop.target, shop.promoted)],
        [("id", item) for n in range(20) for item in (*fillers[3 * n : 3 * n + 3], shop.promoted)],
    ):
        # Clicks that are repeated in the visit raise the item's number of clicks, as in the first test.
        assert shop.sent(visits, ago=31 * 60_000).visitors >= once.visitors - (548 - once.visitors) / 50


def test_sessions_of_one_origin_are_worth_two() -> None:
    shop = Shop()

    def sessions(count: int) -> list[tuple[str, int]]:
        return [(f"s{n}", item) for n in range(count) for item in (shop.target, shop.promoted)]

    two, many = shop.sent(sessions(2), "10.0.0.1"), shop.sent(sessions(500), "10.0.0.1")
    assert two == many == Attack(two.visitors, 4)
    assert two.visitors > TOP
    assert shop.sent(sessions(500)).learned > 100, "from as many origins as sessions"


def test_sessions_that_are_deleted_at_once_keep_no_click_of_others_from_being_learned() -> None:
    shop = Shop()
    state, learned = OnlineState(shop.model, LearningLimits()), 0
    for minute in range(60):
        events: list[Event] = []
        for number in range(6):
            moment = MORNING + 60_000 * minute + 9_000 * number
            name = f"attacker-{minute}-{number}"
            events += [Click(name, shop.promoted + 1, moment, arrived=moment), Forget(name, moment)]
        moment = MORNING + 60_000 * minute + 59_000
        events.append(Click(f"honest-{minute}", shop.promoted + 1, moment, arrived=moment))
        before = state.event_processor.learned_clicks
        state.apply([LogEntry(event, f"{minute:010d}-{n:012d}") for n, event in enumerate(events)])
        learned += state.event_processor.learned_clicks - before - 6
    assert learned == 60


def test_eight_sessions_after_a_silent_day_are_not_what_unknown_visitors_see() -> None:
    rng = np.random.default_rng(7)
    n_items, count = 300, 15_000
    sessions = Sessions.from_lists([(n_items * rng.random(4) ** 3).astype(int) for _ in range(count)])
    starts = NOON - 10 * DAY_MS + np.arange(count) * (10 * DAY_MS // count)
    times = np.repeat(starts, 4) + np.tile(1000 * np.arange(4), count)
    trends = TrendTables.build(sessions, times, n_items).live(n_items, once=True)
    now, promoted = NOON + DAY_MS, n_items - 1

    def place() -> int:
        items, _ = trends.rising(now, 256)
        return 1 + int(np.append(np.flatnonzero(items == promoted), len(items))[0])

    before = place()
    for session in range(1, 9):
        trends.click(np.array([session, session]), np.array([0, promoted], np.int32), np.array([now, now]))
        now += 60_000  # items are listed once a minute
        trends.click(np.array([session + 100]), np.array([0], np.int32), np.array([now]))
        assert place() > TOP, session
    for session in range(9, 60):
        trends.click(np.array([session]), np.array([promoted], np.int32), np.array([now]))
    assert place() == 1 < before, "a real crowd is shown"


@pytest.mark.parametrize("per_day", [1_000, 1_000_000])
def test_the_crowd_that_unknown_visitors_see_grows_with_the_shop(per_day: int) -> None:
    sessions = Sessions(np.arange(per_day, dtype=np.int32) % 200, np.arange(per_day + 1))
    times = NOON - DAY_MS + np.arange(per_day) * (DAY_MS // per_day)
    trends = TrendTables.build(sessions, times, 201).live(201, once=True)
    needed = 0
    while trends.rising(NOON, 1)[0].tolist() != [200] and needed < 1000:
        needed += 1
        trends.click(np.array([needed]), np.array([200], np.int32), np.array([NOON]))
    assert needed < 40 if per_day == 1_000 else needed > 40
