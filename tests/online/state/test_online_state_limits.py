"""Floods, bots and wrong clocks change rankings no further than the limits allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.log.events import Click, Event, now_ms
from mtaw_fast.online.settings import LearningLimits, LearningSettings
from tests.support.online.recommenders import HOUR, N, answers, drawn, until_learned

MINUTE = 60_000
WINDOW = now_ms() // MINUTE * MINUTE - 5 * MINUTE  # the start of a window that has passed
QUESTIONS = drawn(31, 30)
Make = Callable[..., Recommender]


def learn(rec: Recommender, events: list[Event]) -> None:
    """Learn events that arrived at their own times."""
    arrived = [replace(event, arrived=event.time) if isinstance(event, Click) else event for event in events]
    until_learned(rec, rec.learner.log.append(arrived))


def flood(sessions: int, *items: str) -> list[Event]:
    """Return fresh sessions within a window, each with one click on every item."""
    return [Click(f"f{n}", item, WINDOW + 10 * n) for n in range(sessions) for item in items]


def honest(sessions: int) -> list[Event]:
    rng = np.random.default_rng(32)
    return [Click(f"h{n}", f"sku-{i}", WINDOW + n) for n in range(sessions) for i in rng.integers(2, N - 2, 3)]


def twin(make: Make, folder: Path, name: str) -> Recommender:
    """Return a recommender that learns in a folder of its own."""
    return Recommender.load(folder, learn=LearningSettings(folder.with_name(name), compact=False))


def test_a_flood_ranks_as_so_few_sessions_as_its_share_lets_in(learning: Make, folder: Path) -> None:
    share = 45  # of sessions with two clicks, next to 60 other fresh clicks: 45 = 0.3 * (60 + 2 * 45)
    attacked, bound = learning(), twin(learning, folder, "bound")
    for rec in (attacked, bound):
        learn(rec, honest(20))
    before = answers(attacked, QUESTIONS)
    learn(attacked, flood(3000, "sku-0", "sku-39"))
    learn(bound, flood(share, "sku-0", "sku-39"))
    assert answers(attacked, QUESTIONS) == answers(bound, QUESTIONS)
    assert answers(attacked, QUESTIONS) != before
    refused = attacked.learner.state.event_processor.tracker.refused["flood"]
    assert refused == 2 * (3000 - share) + 1
    learn(attacked, [Click(f"later{n}", "sku-39", WINDOW + MINUTE + n) for n in range(5)])
    assert attacked.learner.state.event_processor.tracker.refused["flood"] == refused, (
        "a flood counts beyond its window"
    )
    bound.close()


def test_a_bot_changes_nothing(learning: Make) -> None:
    rec = learning()
    learn(rec, honest(40))
    before = answers(rec, QUESTIONS)
    learn(rec, [Click("bot", f"sku-{n % N}", WINDOW + 30 * n) for n in range(500)])
    after = answers(rec, QUESTIONS)
    # What was learned before it was known as a bot was removed: up to the last bits of sums, before a compaction.
    for (items, scores), (items_before, scores_before) in zip(after, before, strict=True):
        assert items == items_before
        assert np.allclose(np.frombuffer(scores, np.float32), np.frombuffer(scores_before, np.float32), atol=1e-5)
    assert rec.learner.state.event_processor.tracker.refused["bot"] == 500 - LearningLimits().burst_clicks


def test_clicks_from_the_future_are_learned_as_of_now(learning: Make) -> None:
    rec = learning()
    begin = now_ms()
    until_learned(rec, rec.learner.append([Click(f"ahead{n}", "sku-1", begin + 10_000 * HOUR) for n in range(100)]))
    until_learned(rec, rec.learner.append(honest(40)))
    tracker = rec.learner.state.event_processor.tracker
    assert tracker.refused["late"] == 0, "clicks of now are no longer learned"
    assert begin <= tracker.clock <= now_ms()
    assert {entry.event.time >= begin for entry in rec.learner.log.read("", 100)} == {True}


def test_old_times_switch_off_no_limit_and_a_rebuild_decides_the_same(learning: Make) -> None:
    rec = learning()
    learn(rec, honest(20))
    last = rec.learner.append([Click(f"old{n}", "sku-1", 1_764_150_000 + n) for n in range(200)])  # in seconds
    for step in range(3):  # times of many windows, to open a new one with each click
        flood = [Click(f"f{step}-{n}", "sku-39", now_ms() - n * MINUTE) for n in range(700)]
        last = rec.learner.append(flood)
    last = rec.learner.append([Click("bot", f"sku-{n % N}", now_ms() - n * MINUTE // 4) for n in range(100)])
    until_learned(rec, last)
    tracker = rec.learner.state.event_processor.tracker
    assert tracker.refused["late"] == 200
    assert tracker.clock > now_ms() - HOUR
    windows = 1 + (now_ms() - WINDOW) // MINUTE - 5
    assert tracker.refused["flood"] >= 2100 - windows * (LearningLimits().item_floor + 20)
    assert tracker.refused["bot"] == 100 - LearningLimits().burst_clicks
    rebuilt = learning()
    assert rebuilt.learner.state.event_processor.tracker.refused == tracker.refused
    assert answers(rebuilt, QUESTIONS) == answers(rec, QUESTIONS)


def test_clicks_that_are_forgotten_make_nothing_popular(learning: Make, folder: Path) -> None:
    rec = learning(limits=LearningLimits(session_gap=MINUTE))
    before = rec.learner.state.event_processor.items.clicks.copy()
    learn(rec, [Click("regrets", f"sku-{n}", WINDOW + n) for n in (1, 2, 1)])
    learn(rec, [Click("bot", "sku-5", WINDOW + n) for n in range(60)])
    event_processor = rec.learner.state.event_processor
    assert (event_processor.items.clicks - before)[:6].tolist() == [0, 1, 1, 0, 0, 0], "a session counts an item once"
    until_learned(rec, rec.forget("regrets"))
    assert np.array_equal(event_processor.items.clicks, before)
    # The same after a compaction, whatever the number of requests.
    learn(rec, [Click("old", "sku-7", WINDOW), Click("new", "sku-8", WINDOW + 3 * MINUTE)])
    rec.close()
    settings = LearningSettings(folder.with_name("learned"), compact=False, limits=LearningLimits(session_gap=MINUTE))
    written = compact_folder(folder, settings)
    assert written is not None
    compacted = Bundle.load(written)
    assert len(compacted.model.log_progress.sessions) == 1
    rec = Recommender.load(folder, learn=settings)
    for _ in range(2):
        until_learned(rec, rec.forget("old"))
    rec.forget("new")
    rec.learner.follower.catch_up()
    assert np.array_equal(rec.learner.state.event_processor.items.clicks, before)
    rec.close()
