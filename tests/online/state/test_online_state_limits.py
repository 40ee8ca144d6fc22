"""What floods, machines and clocks that are wrong can do to everybody's rankings: no more than the limits say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mtaw_fast import Recommender
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.log.events import Click, Event, now_ms
from mtaw_fast.online.settings import LearningLimits, LearningSettings
from tests.support.online.recommenders import HOUR, N, answers, drawn, until_learned

MINUTE = 60_000
WINDOW = now_ms() // MINUTE * MINUTE - 5 * MINUTE  # begins one, and all of it has passed
QUESTIONS = drawn(31, 30)
Make = Callable[..., Recommender]


def taught(rec: Recommender, events: list[Event]) -> None:
    until_learned(rec, rec.learner.append(events))


def flood(sessions: int, *items: str) -> list[Event]:
    """Fresh sessions within a window, each with one click on every item."""
    return [Click(f"f{n}", item, WINDOW + 10 * n) for n in range(sessions) for item in items]


def honest(sessions: int) -> list[Event]:
    rng = np.random.default_rng(32)
    return [Click(f"h{n}", f"sku-{i}", WINDOW + n) for n in range(sessions) for i in rng.integers(2, N - 2, 3)]


def twin(make: Make, folder: Path, name: str) -> Recommender:
    """A recommender that learns in a folder of its own."""
    return Recommender.load(folder, learn=LearningSettings(folder.with_name(name), compact=False))


def test_a_flood_ranks_as_so_few_sessions_as_the_floor_lets_in(learning: Make, folder: Path) -> None:
    floor = LearningLimits().item_floor
    attacked, bound = learning(), twin(learning, folder, "bound")
    for rec in (attacked, bound):
        taught(rec, honest(20))
    before = answers(attacked, QUESTIONS)
    taught(attacked, flood(3000, "sku-0", "sku-39"))
    # Of all fresh clicks 30% may be an item's own; of a flood on two items both are half, so that the floor counts.
    taught(bound, flood(floor, "sku-0", "sku-39"))
    assert answers(attacked, QUESTIONS) == answers(bound, QUESTIONS)
    assert answers(attacked, QUESTIONS) != before
    assert attacked.learner.state.event_processor.tracker.refused["flood"] == 2 * (3000 - floor)
    taught(attacked, [Click(f"later{n}", "sku-39", WINDOW + MINUTE + n) for n in range(10)])
    assert attacked.learner.state.event_processor.tracker.refused["flood"] == 2 * (3000 - floor), (
        "it outlived its window"
    )
    bound.close()


def test_a_machine_changes_nothing(learning: Make) -> None:
    rec = learning()
    taught(rec, honest(40))
    before = answers(rec, QUESTIONS)
    taught(rec, [Click("machine", f"sku-{n % N}", WINDOW + 30 * n) for n in range(500)])
    after = answers(rec, QUESTIONS)
    # What it taught until it was known for one was taken out again: up to the last bits of sums, before a compaction.
    for (items, scores), (items_before, scores_before) in zip(after, before, strict=True):
        assert items == items_before
        assert np.allclose(np.frombuffer(scores, np.float32), np.frombuffer(scores_before, np.float32), atol=1e-5)
    assert rec.learner.state.event_processor.tracker.refused["bot"] == 500 - LearningLimits().burst_clicks


def test_an_endless_session_teaches_as_much_as_its_cap(learning: Make, folder: Path) -> None:
    clicks = [Click("endless", f"sku-{n % 3}", WINDOW - 3 * HOUR + 5_000 * n) for n in range(300)]
    rec, bound = learning(), twin(learning, folder, "bound")
    taught(rec, clicks)
    taught(bound, clicks[: LearningLimits().session_clicks])
    assert rec.learner.state.event_processor.tracker.refused["session_full"] == 100
    assert answers(rec, QUESTIONS) == answers(bound, QUESTIONS)
    bound.close()


def test_late_clicks_are_learned_within_the_bound_alone(learning: Make) -> None:
    rec = learning()
    taught(rec, honest(40))
    before = answers(rec, QUESTIONS)
    late = LearningLimits().late
    taught(rec, [Click(f"late{n}", f"sku-{n % 7}", WINDOW - late - HOUR + n) for n in range(50)])
    assert answers(rec, QUESTIONS) == before
    assert rec.learner.state.event_processor.tracker.refused["late"] == 50
    taught(rec, [Click(f"late{n}", f"sku-{n % 7}", WINDOW - late + HOUR + n) for n in range(50)])
    assert answers(rec, QUESTIONS) != before


def test_clicks_from_the_future_are_learned_as_of_now(learning: Make) -> None:
    rec = learning()
    begin = now_ms()
    taught(rec, [Click(f"ahead{n}", "sku-1", begin + 10_000 * HOUR) for n in range(100)])
    taught(rec, honest(40))
    tracker = rec.learner.state.event_processor.tracker
    assert tracker.refused["late"] == 0, "what comes now is no longer learned"
    assert begin <= tracker.clock <= now_ms()
    assert {one.event.time >= begin for one in rec.learner.log.read("", 100)} == {True}


def test_no_more_new_items_enter_than_there_is_room_for(learning: Make) -> None:
    rec = learning(limits=LearningLimits(new_items=20))
    taught(rec, [Click(f"v{n}", f"made-up-{n}", WINDOW + n) for n in range(100)])
    assert len(rec.learner.state.event_processor.new_items) == 20
    assert rec.learner.state.event_processor.refused["catalog_full"] == 80
    taught(rec, [Click("v", "sku-1", WINDOW), Click("v", "made-up-3", WINDOW + 1)])
    assert rec.learner.state.event_processor.learned_clicks == 22


def test_an_item_is_recommended_from_its_clicks_on(learning: Make) -> None:
    rec = learning(limits=LearningLimits(min_clicks=3))

    def shown() -> bool:
        rec.learner.follower.catch_up()
        return "rare" in rec.recommend(["sku-1", "rare"], k=N + 5).items

    for visitor in range(3):
        assert not shown()
        taught(rec, [Click(f"v{visitor}", item, WINDOW + visitor) for item in ("sku-1", "rare")])
    assert shown()


def test_clicks_that_are_forgotten_make_nothing_popular(learning: Make, folder: Path) -> None:
    rec = learning(limits=LearningLimits(session_gap=MINUTE))
    before = rec.learner.state.event_processor.clicks.copy()
    taught(rec, [Click("regrets", f"sku-{n}", WINDOW + n) for n in (1, 2, 1)])
    taught(rec, [Click("machine", "sku-5", WINDOW + n) for n in range(60)])
    event_processor = rec.learner.state.event_processor
    assert (event_processor.clicks - before)[:6].tolist() == [0, 2, 1, 0, 0, 0]
    until_learned(rec, rec.forget("regrets"))
    assert np.array_equal(event_processor.clicks, before)
    # And so where it was taken into the tables meanwhile, however often it is asked for.
    taught(rec, [Click("old", "sku-7", WINDOW), Click("new", "sku-8", WINDOW + 3 * MINUTE)])
    rec.close()
    settings = LearningSettings(folder.with_name("learned"), compact=False, limits=LearningLimits(session_gap=MINUTE))
    grown = compact_folder(folder, settings)
    assert grown is not None
    assert len(grown.model.log_progress.sessions) == 1
    rec = Recommender.load(folder, learn=settings)
    for _ in range(2):
        until_learned(rec, rec.forget("old"))
    rec.forget("new")
    rec.learner.follower.catch_up()
    assert np.array_equal(rec.learner.state.event_processor.clicks, before)
    rec.close()
