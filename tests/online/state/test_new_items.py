"""Items that enter while serving have a vector at once, and ids that do not exist cannot fill the catalog."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast import Recommender
from mtaw_fast.bundle import Model
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.items import ItemFrame, ItemTable, TableChange
from mtaw_fast.memory import MemoryTables
from mtaw_fast.online.compaction.compaction import compact_model
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import AddItems, Click, Event, Forget
from mtaw_fast.online.log.table_parts import table_parts
from mtaw_fast.online.replay import ReplaySettings
from mtaw_fast.online.replay import replay as replay_log
from mtaw_fast.online.settings import COMPACTED, LearningLimits, LearningSettings
from mtaw_fast.online.state.content_prior import MAX_LOAD
from mtaw_fast.online.state.new_items import MAX_SESSIONS, NewItems
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.training.content import with_content
from tests.support.online.logs import log_file
from tests.support.online.recommenders import (
    MODEL,
    NOON,
    N,
    entries,
    model_fields,
    plain_ranker,
    save,
    stream,
    until_learned,
)

LIMITS = LearningLimits()


def state_of(
    events: Sequence[Event], cuts: Sequence[int] = (), limits: LearningLimits = LIMITS, model: Model = MODEL
) -> OnlineState:
    """Return what a reader has learned whose reads end at `cuts`."""
    state, all_entries = OnlineState(model, limits), entries(events)
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


def junk(count: int) -> list[Event]:
    return [click(f"junk-{n}", f"junk-item-{n}", n) for n in range(count)]


def test_ids_that_do_not_exist_lock_neither_others_out_nor_items_added_by_hand() -> None:
    limits = LearningLimits(new_items=64, new_floor=10**6)
    flooded = state_of(junk(5000), limits=limits).event_processor
    assert len(flooded.items.new_items) == 33
    assert flooded.tracker.refused == {"unproven": 5000 - 33}
    real = [click(f"s{n}", item, 6000 + n) for n in range(MAX_SESSIONS) for item in ("sku-1", "real")]
    state = state_of([*junk(5000), *real], limits=limits)
    assert state.event_processor.items.internal_ids_of(["real"]) >= 0
    # However many sessions the makers of ids start, some places are for items that are added by hand.
    events = [click(f"s{n}-{k}", f"junk-{n}", k) for n in range(400) for k in range(MAX_SESSIONS)]
    state = state_of(events, limits=LearningLimits(new_items=64, item_floor=10**6))
    assert len(state.event_processor.items.new_items) == 60
    assert state.event_processor.tracker.refused["catalog_full"] > 0
    state.apply([LogEntry(AddItems(("w", "x", "y", "z"), (("sku-1",),) * 4, None, NOON), "1")])
    assert (state.event_processor.items.internal_ids_of(["w", "x", "y", "z"]) >= 0).all()


def test_items_whose_sessions_are_forgotten_leave_room_for_others_also_after_a_compaction() -> None:
    limits = LearningLimits(new_items=64, new_floor=10**6)
    events = [*junk(5000), *(Forget(f"junk-{n}", NOON) for n in range(5000))]
    state = state_of(events, limits=limits)
    compacted = compact_model(MODEL, "log", [entries(junk(5000))], limits)
    again = OnlineState(compacted, limits)
    again.apply(entries(events[5000:]))
    for reader in (state, again):
        items = reader.event_processor.items
        assert (items.new_items.entered, len(items.left)) == (0, 33)
        ids = [*items.new_items.ids, *compacted.ids.external(np.arange(N, compacted.n_items, dtype=np.int32))]
        assert items.unavailable[items.internal_ids_of(ids)[:33]].all()
        reader.apply(entries([click("honest", "real", 9000), click("honest", ids[0], 9001)]))
        assert reader.event_processor.items.internal_ids_of(["real"]) >= 0, "it enters with its first session"
        assert (items.new_items.entered, len(items.left)) == (2, 32), "one that left enters like an unknown one"
        assert not items.unavailable[items.internal_ids_of(["real", ids[0]])][0]


def test_clicks_of_a_trusted_sender_bring_items_at_once_up_to_the_capacity() -> None:
    limits = LearningLimits(new_items=64)
    trusted = [event._replace(trusted=True) for event in junk(100) if isinstance(event, Click)]
    assert len(state_of(trusted, limits=limits).event_processor.items.new_items) == 60
    assert len(state_of(junk(100), limits=limits).event_processor.items.new_items) == limits.new_floor


def test_a_forgotten_session_counts_for_no_candidate() -> None:
    limits = LearningLimits(new_items=4)
    events = [*junk(3), click("a", "x", 10), Forget("a", NOON), click("b", "x", 11)]
    for history, place in ((events, -1), ([*events, click("c", "x", 12)], N + 3)):
        assert state_of(history, limits=limits).event_processor.items.internal_ids_of(["x"]).tolist() == [place]


@pytest.mark.parametrize(("entered", "needed"), [(0, 1), (500, 1), (501, 2), (750, 2), (751, 4), (940, 16), (5000, 16)])
def test_the_more_items_came_by_clicks_the_more_sessions_the_next_one_needs(entered: int, needed: int) -> None:
    assert NewItems(10, 1000, entered).sessions_needed == needed


ITEMS, GROUPS = 200, 20


def frame(items: Sequence[int]) -> ItemFrame:
    """The group of an item is its category."""
    return ItemFrame.of(
        {"id": [f"sku-{i}" for i in items], "group": [f"group-{i % GROUPS}" for i in items]},
        kinds={"group": "category"},
    )


def make_model(waiting: int = 0) -> Model:
    """Items of a group are clicked together and have similar vectors; the table knows `waiting` more items."""
    rng = np.random.default_rng(4)
    past = [rng.integers(GROUPS) + GROUPS * rng.permutation(ITEMS // GROUPS)[: rng.integers(2, 7)] for _ in range(3000)]
    fields = model_fields(ITEMS)
    centers = rng.normal(size=(GROUPS, 8))
    embedding = centers[np.arange(ITEMS) % GROUPS] + 0.3 * rng.normal(size=(ITEMS, 8))
    fields["weights"]["item_embedding"] = embedding.astype(np.float32)
    sessions = Sessions.from_lists(past)
    table = frame(range(ITEMS + waiting))
    rows = np.where(np.arange(ITEMS + waiting) < ITEMS, np.arange(ITEMS + waiting), -1)
    model = Model.of(
        **{**fields, "popularity": np.bincount(sessions.items, minlength=ITEMS)},
        memory=MemoryTables.build(sessions, ITEMS),
        ranker_net=plain_ranker(),
        items=ItemTable(ITEMS).replaced(table, rows, ITEMS),
    )
    return with_content(model)


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model(waiting=20)


NEW = tuple(f"sku-{place}" for place in range(ITEMS, ITEMS + 5))


@pytest.fixture(scope="module")
def fresh(model: Model) -> Model:
    """The model, of whose 20 rows that wait five are new."""
    assert model.items is not None
    return replace(model, items=replace(model.items, new=dict.fromkeys(NEW, NOON)))


def groups_near(model: Model, vector: np.ndarray) -> set[int]:
    return {int(item) % GROUPS for item in np.argsort(-(model.item_vectors @ vector))[:5]}


def test_an_item_that_is_clicked_alone_or_whose_session_is_forgotten_has_the_vector_of_its_attributes(
    model: Model,
) -> None:
    limits = LearningLimits()
    state = state_of([Click("a", "sku-203", NOON)], model=model)
    alone = state.catalog().vectors
    assert groups_near(model, alone[0]) == {3}
    assert not state.event_processor.content_priors  # a click is evidence of its own
    clicks: list[Event] = [Click("a", item, NOON + place) for place, item in enumerate(("sku-5", "sku-203"))]
    clicked = compact_model(model, "log", [entries(clicks)], limits, all_over=True)
    assert not np.allclose(clicked.item_vectors[ITEMS:], alone, atol=1e-2)
    forgotten = compact_model(clicked, "log", [entries([Forget("a", NOON)])], limits)
    assert np.allclose(forgotten.item_vectors[ITEMS:], alone, atol=1e-6)


def test_clicks_outweigh_attributes(model: Model) -> None:
    items = [(f"sku-{4 + GROUPS * (n % 10)}", "sku-203") for n in range(64)]
    events: list[Event] = [Click(f"s{n}", item, NOON + 2 * n) for n, pair in enumerate(items) for item in pair]
    limits = LearningLimits(item_floor=1000, pair_floor=1000)
    assert groups_near(model, state_of(events, limits=limits, model=model).catalog().vectors[0]) == {4}


def test_items_of_the_table_rank_at_once_if_cold_start_is_on(tmp_path: Path) -> None:
    folder, hits = save(tmp_path / "bundle", make_model()), {}
    for cold in (0, 1):
        limits = LearningLimits(cold_start=cold)
        learn = LearningSettings(tmp_path / f"learned-{cold}", compact=False, limits=limits)
        rec = Recommender.load(folder, learn=learn)
        rec.set_items({"id": ["new-3"], "group": ["group-3"]}, mode="patch")
        assert ("new-3" in rec.ids) == bool(cold)
        sessions = [[f"sku-{i}", f"sku-{i + GROUPS}"] for i in range(ITEMS - GROUPS)]
        hits[cold] = ["new-3" in rec.recommend(session, k=20).items for session in sessions]
        rec.close()
    in_group = np.arange(ITEMS - GROUPS) % GROUPS == 3
    assert np.mean(np.array(hits[1])[in_group]) > 0.6
    assert np.mean(np.array(hits[1])[~in_group]) < 0.05
    assert not any(hits[0])


def test_a_new_row_starts_with_the_nearest_items(model: Model) -> None:
    events = changed(range(220, 230))
    assert not state_of(events, limits=LearningLimits(cold_start=0), model=model).catalog().added
    state = state_of(events, model=model)
    catalog = state.catalog()
    assert catalog.added == tuple(f"sku-{i}" for i in range(220, 230))  # the rows of the training wait
    assert catalog.vectors.any(axis=1).all()
    priors = state.event_processor.content_priors
    assert np.mean([(neighbor - item) % GROUPS == 0 for item, neighbor, _ in priors]) > 0.8
    assert len(priors) == 10 * 10
    assert catalog.items is not None
    assert len(catalog.items.waiting) == 20
    assert not catalog.unavailable.any()


def test_a_row_enters_once_and_only_if_it_came_after_the_training(model: Model, tmp_path: Path) -> None:
    rec = Recommender.load(save(tmp_path / "bundle", model))
    rows = {"id": ["sku-205", "new-3", "new-x"], "group": ["group-5", "group-3", None]}
    report = rec.set_items(rows, mode="patch")
    assert ["sku-205" in rec.ids, "new-3" in rec.ids, "new-x" in rec.ids] == [False, True, False]
    assert any("1 new items entered" in note for note in report.notes)
    session = [f"sku-{3 + GROUPS * place}" for place in range(2)]
    assert "new-3" in rec.recommend(session, k=20).items
    rec.set_items(rows, mode="patch")
    assert rec.n_items == ITEMS + 1
    rec.set_items({"id": ["new-x"], "group": ["group-4"]}, mode="patch")  # its attributes come later
    assert "new-x" in rec.ids


@pytest.mark.parametrize("place", ["alone", "state", "learn"])
def test_rows_that_are_new_at_the_training_start_with_the_bundle(fresh: Model, tmp_path: Path, place: str) -> None:
    options: dict[str, Any] = {"learn": {"learn": tmp_path / "kept"}, "state": {"state": tmp_path / "kept"}}.get(
        place, {}
    )
    rec = Recommender.load(save(tmp_path / "bundle", fresh), **options)
    assert rec.new_items() == [(item, 0, 0, True) for item in NEW]  # the other 15 wait
    session = [f"sku-{3 + GROUPS * number}" for number in range(2)]
    answer = rec.recommend(session, k=20, explore=0.2)
    assert sum(row.displays for row in rec.new_items()) == sum(item in NEW for item in answer.items) >= 4
    assert "sku-203" in rec.recommend(session, k=20).items
    assert rec.why(session, ["sku-210", "no-row"]).items[0].gate.kind == "waiting"
    assert rec.why(session, ["sku-210", "no-row"]).items[1].gate.kind == "unknown"
    assert rec.recommend(["sku-203"]).unknown == []
    copy = pickle.loads(pickle.dumps(rec))
    assert copy.recommend(session, k=20).scores.tolist() == rec.recommend(session, k=20).scores.tolist()
    for one in (rec, copy):
        one.close()


def test_a_compaction_keeps_the_start_of_new_rows(fresh: Model, tmp_path: Path) -> None:
    folder, learn = save(tmp_path / "bundle", fresh), LearningSettings(tmp_path / "learned", compact=False)
    rec = Recommender.load(folder, learn=learn)
    until_learned(rec, rec.observe("a", ["sku-203", "sku-3", "sku-219"]))
    session, before = ["sku-3", "sku-23"], rec.new_items()
    assert [row.item for row in before] == [*NEW, "sku-219"]
    priors = rec.learner.state.event_processor.content_priors
    other = Recommender.load(folder, learn=learn)  # replays the log
    answers = [one.recommend(session, k=50) for one in (rec, other)]
    assert answers[0] == answers[1]
    other.close()
    rec.compact()
    assert rec.new_items() == before
    assert rec.learner.state.event_processor.content_priors == priors
    rec.close()
    alone = Recommender.load(tmp_path / "learned" / COMPACTED)  # made-up sessions are not in the tables
    assert "sku-203" in alone.recommend(session, k=20).items
    assert [row.item for row in alone.new_items()] == [row.item for row in before]
    again = Recommender.load(folder, learn=learn)
    assert again.new_items() == before
    assert again.recommend(session, k=50).items == rec.recommend(session, k=50).items
    again.close()


def test_a_replay_starts_them_too(fresh: Model, tmp_path: Path) -> None:
    rows = [("a", item, NOON + place) for place, item in enumerate(("sku-3", "sku-23", "sku-203"))]
    log = log_file(tmp_path / "log.csv", rows, fresh)
    for cold in (0, 1):
        result = replay_log(log, ReplaySettings(), LearningLimits(cold_start=cold))
        assert [result.ranks[name][-1] > 0 for name in ("learning", "frozen")] == [bool(cold)] * 2


def test_numbers_alone_start_no_item_and_a_table_that_empties_rows_says_so(tmp_path: Path) -> None:
    plain = make_model()
    ids = [f"sku-{place}" for place in range(ITEMS)]
    priced = {"id": ids, "group": [f"group-{place % GROUPS}" for place in range(ITEMS)], "price": [*range(ITEMS)]}
    table = ItemTable(ITEMS).replaced(ItemFrame.of(priced, kinds={"group": "category"}), np.arange(ITEMS), ITEMS)
    rec = Recommender.load(save(tmp_path / "bundle", with_content(replace(plain, items=table))))
    report = rec.set_items({"id": ["item-typo"], "price": [9]}, mode="patch")
    assert "item-typo" not in rec.ids
    assert any("such as 'item-typo': these rows wait for a first click" in note for note in report.notes)
    report = rec.set_items({"id": ["sku-1", "new-3"], "group": ["group-1", "group-3"]})
    assert "new-3" in rec.ids
    assert "199 items of the catalog lost all their values; a patch keeps them" in report.notes


def test_one_item_starts_few_new_ones(model: Model) -> None:
    rows = [f"new-{place}" for place in range(300)]
    change = TableChange.of({"id": rows, "group": ["group-3"] * 300}, "patch")
    priors = state_of(list(table_parts(change, NOON)), model=model).event_processor.content_priors
    load = Counter(neighbor for _, neighbor, _ in priors)
    assert max(load.values()) == MAX_LOAD


def test_displays_are_shared_by_the_log_and_kept_by_a_compaction(model: Model, tmp_path: Path) -> None:
    folder, learned = save(tmp_path / "bundle", model), tmp_path / "learned"
    first, second = (Recommender.load(folder, learn=LearningSettings(learned, compact=False)) for _ in range(2))
    first.set_items({"id": ["new-3"], "group": ["group-3"]}, mode="patch")
    session = [f"sku-{3 + GROUPS * place}" for place in range(2)]
    for _ in range(7):
        assert "new-3" in first.recommend(session, k=20, explore=0.05).items
    until_learned(first, first.observe("a", ["new-3"]))
    first.close()  # stores what it has shown
    second.catch_up()
    assert second.new_items() == [("new-3", 7, 1, True)]
    assert second.new_items(below=8) == [("new-3", 7, 1, False)]
    second.compact()
    assert second.new_items() == [("new-3", 7, 1, True)]
    second.close()
    again = Recommender.load(folder, learn=LearningSettings(learned, compact=False))
    assert again.new_items() == [("new-3", 7, 1, True)]
    again.close()


def test_items_added_by_hand_keep_what_was_given(model: Model, tmp_path: Path) -> None:
    rec = Recommender.load(
        save(tmp_path / "bundle", model), learn=LearningSettings(tmp_path / "learned", compact=False)
    )
    rec.add_items(["sku-203"], neighbors=[["sku-5"]])
    assert rec.similar_items("sku-203", k=1).items == ["sku-5"]
    until_learned(rec, rec.observe("a", ["sku-204"]))
    near = rec.similar_items("sku-204", k=5).items
    assert {int(str(item).removeprefix("sku-")) % GROUPS for item in near} == {4}


def changed(items: Sequence[int], mode: Any = "patch") -> list[Event]:
    return list(table_parts(TableChange.of(frame(items), mode), NOON))


CHANGES = st.lists(
    st.one_of(
        st.builds(
            lambda session, item: [Click(session, f"sku-{item}", NOON)], st.sampled_from("abcd"), st.integers(190, 230)
        ),
        st.builds(lambda first, count: changed(range(first, first + count)), st.integers(195, 240), st.integers(1, 5)),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=25)
@given(CHANGES, st.lists(st.integers(0, 40), max_size=3), st.integers(0, 1), st.integers(0, 30), st.booleans())
def test_readers_and_compactions_agree(
    model: Model, fresh: Model, parts: list[list[Event]], cuts: list[int], cold: int, compacted: int, has_new: bool
) -> None:
    model = fresh if has_new else model
    events = [event for part in parts for event in part]
    limits = LearningLimits(cold_start=cold, item_floor=1000, pair_floor=1000)
    whole, parted = (state_of(events, ends, limits, model) for ends in ((), cuts))
    first, second = whole.catalog(), parted.catalog()
    assert first.added == second.added
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert whole.event_processor.content_priors == parted.event_processor.content_priors
    begin = entries(events)[:compacted]
    if begin:
        later = OnlineState(compact_model(model, "log", [begin], limits), limits)
        later.apply(entries(events)[compacted:])
        assert later.event_processor.items.internal_ids_of(first.added).tolist() == [
            ITEMS + place for place in range(len(first.added))
        ]
