"""Items that enter by clicks: their vectors come at once, and ids that do not exist cannot fill the catalog."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.online.compaction.compaction import compact_model
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import AddItems, Click, Event, Forget
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.new_items import MAX_SESSIONS, NewItems
from mtaw_fast.online.state.online_state import OnlineState
from tests.support.online.recommenders import MODEL, NOON, N, entries, stream

LIMITS = LearningLimits()


def state_of(events: Sequence[Event], cuts: Sequence[int] = (), limits: LearningLimits = LIMITS) -> OnlineState:
    """Return what a reader has learned whose reads end at `cuts`."""
    state, all_entries = OnlineState(MODEL, limits), entries(events)
    for begin, end in itertools.pairwise(sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})):
        state.apply(all_entries[begin:end])
    return state


def click(session: str, item: str, after: int = 0) -> Click:
    return Click(session, item, NOON + after)


def test_an_item_has_a_vector_after_the_first_click_that_says_something_of_it() -> None:
    vectors = state_of([click("a", "sku-1"), click("a", "x", 1)]).catalog().vectors
    np.testing.assert_allclose(vectors[0], MODEL.item_vectors[1], atol=1e-6)
    first = [click("a", "x"), click("b", "y"), click("b", "x", 1)]
    assert not state_of(first).catalog().vectors.any()
    vectors = state_of([*first, click("a", "sku-2", 2)]).catalog().vectors
    np.testing.assert_allclose(vectors[0], MODEL.item_vectors[2], atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 50), st.lists(st.integers(0, 300), max_size=12), st.integers(1, 300))
def test_readers_agree_on_vectors_at_every_position(seed: int, cuts: list[int], end: int) -> None:
    """Whatever the sizes of their reads, and whether they published on the way."""
    events = stream(seed, sessions=40, new_items=12)[:end]
    state, stepwise = state_of(events, cuts), OnlineState(MODEL, LIMITS)
    for entry in entries(events):
        stepwise.apply([entry])
        stepwise.catalog()
    np.testing.assert_array_equal(state.catalog().vectors, stepwise.catalog().vectors)


def test_only_items_with_news_are_looked_at() -> None:
    new_items = NewItems(10, 100)
    for item in range(50):
        new_items.add(item)
    new_items.count([12, 15, 3])
    assert new_items.touched == [2, 5]
    assert new_items.due_for_update() == [2, 5]
    assert new_items.touched == []
    new_items.count([12])
    assert new_items.due_for_update() == [2]
    new_items.count([12])
    assert new_items.due_for_update() == []  # its third click: the next update is at the fourth


def junk(count: int, session: str = "junk") -> list[Event]:
    return [click(f"{session}-{n}", f"{session}-item-{n}", n) for n in range(count)]


def test_ids_that_do_not_exist_do_not_lock_others_out() -> None:
    limits = LearningLimits(new_items=64)
    flooded = state_of(junk(5000), limits=limits).event_processor
    assert len(flooded.items.new_items) == 33
    assert flooded.refused == {"unproven": 5000 - 33}
    real = [click(f"s{n}", item, 6000 + n) for n in range(MAX_SESSIONS) for item in ("sku-1", "real")]
    by_hand: list[Event] = [AddItems((f"hand-{n}",), (("sku-1",),), None, NOON) for n in range(4)]
    state = state_of([*junk(5000), *real, *by_hand], limits=limits)
    assert (state.event_processor.items.internal_ids_of(["real", *(f"hand-{n}" for n in range(4))]) >= 0).all()


def test_items_added_by_hand_have_places_of_their_own() -> None:
    """However many sessions the makers of ids start."""
    limits = LearningLimits(new_items=64, item_floor=10**6)
    events = [click(f"s{n}-{k}", f"junk-{n}", k) for n in range(400) for k in range(MAX_SESSIONS)]
    state = state_of(events, limits=limits)
    assert len(state.event_processor.items.new_items) == 60
    assert state.event_processor.refused["catalog_full"] > 0
    state.apply([LogEntry(AddItems(("w", "x", "y", "z"), (("sku-1",),) * 4, None, NOON), "1")])
    assert (state.event_processor.items.internal_ids_of(["w", "x", "y", "z"]) >= 0).all()


def test_a_forgotten_session_counts_for_no_candidate() -> None:
    limits = LearningLimits(new_items=4)
    events = [*junk(3), click("a", "x", 10), Forget("a", NOON), click("b", "x", 11)]
    for history, place in ((events, -1), ([*events, click("c", "x", 12)], N + 3)):
        assert state_of(history, limits=limits).event_processor.items.internal_ids_of(["x"]).tolist() == [place]


SESSIONS, ITEMS = st.sampled_from("abcdefgh"), st.sampled_from([f"new-{n}" for n in range(12)] + ["sku-1", "sku-2"])
EVENTS = st.lists(
    st.one_of(
        st.builds(Click, SESSIONS, ITEMS, st.integers(NOON, NOON + 10**6)),
        st.builds(Click, SESSIONS, ITEMS, st.integers(NOON, NOON + 10**6)),
        st.builds(Forget, SESSIONS, st.just(NOON)),
        st.builds(AddItems, st.sampled_from([("new-1",), ("hand",)]), st.just((("sku-1",),)), st.none(), st.just(NOON)),
    ),
    max_size=80,
)


@settings(deadline=None, max_examples=60)
@given(EVENTS, st.integers(0, 80), st.integers(0, 80))
def test_a_compacted_bundle_admits_the_items_that_the_running_process_admits(
    events: list[Event], cut: int, compacted: int
) -> None:
    limits = LearningLimits(new_items=8)
    whole = state_of(events, [cut], limits).event_processor
    begin, rest = entries(events)[:compacted], entries(events)[compacted:]
    if whole.refused["catalog_full"] or not begin:
        return  # a compaction makes room
    model = compact_model(MODEL, "log", [begin], limits)
    state = OnlineState(model, limits)
    state.apply(rest)
    ids = whole.items.new_items.ids
    assert state.event_processor.items.internal_ids_of(ids).tolist() == [N + place for place in range(len(ids))]
    assert state.event_processor.items.new_items.entered == whole.items.new_items.entered
    assert state.event_processor.items.new_items.candidates == whole.items.new_items.candidates


@pytest.mark.parametrize(("entered", "needed"), [(0, 1), (500, 1), (501, 2), (750, 2), (751, 4), (940, 16), (5000, 16)])
def test_the_more_items_came_by_clicks_the_more_sessions_the_next_one_needs(entered: int, needed: int) -> None:
    assert NewItems(10, 1000, entered).sessions_needed == needed
