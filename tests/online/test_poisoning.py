"""Colluding sessions move an item no further than the long-run traffic allows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from bench.live.inputs import MORNING, make_shop
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import Click
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
        state, moment, clicks = OnlineState(self.model, LearningLimits()), MORNING, []
        for colluder in range(colluders):
            for item in (self.target, self.promoted) * repeats:
                moment += 10_000
                clicks.append(Click(f"colluder-{colluder}", item + 1, moment, arrived=moment))
        state.apply([LogEntry(click, f"{event:010d}-000000000000") for event, click in enumerate(clicks)])
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
