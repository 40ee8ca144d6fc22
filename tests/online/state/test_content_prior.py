"""Items that enter while serving have the vector and the neighbors of their attributes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle, Model
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.items import ItemFrame, ItemTable, TableChange
from mtaw_fast.memory import MemoryTables
from mtaw_fast.online.compaction.compaction import compact_model
from mtaw_fast.online.log.events import Click, Event, Forget
from mtaw_fast.online.log.table_parts import table_parts
from mtaw_fast.online.settings import LearningLimits, LearningSettings
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.training.content import with_content
from tests.support.online.recommenders import NOON, entries, plain_ranker, until_learned
from tests.support.random_bundle import bundle_parts

N, GROUPS = 200, 20
COLD = LearningLimits(cold_start=1)


def frame(items: Sequence[int]) -> ItemFrame:
    """The group of an item is its category."""
    return ItemFrame.of(
        {"id": [f"sku-{i}" for i in items], "group": [f"group-{i % GROUPS}" for i in items]},
        kinds={"group": "category"},
    )


def make_model(waiting: int = 0) -> Model:
    """Items of a group are clicked together and have similar vectors; the table knows `waiting` more items."""
    rng = np.random.default_rng(4)
    past = [rng.integers(GROUPS) + GROUPS * rng.permutation(N // GROUPS)[: rng.integers(2, 7)] for _ in range(3000)]
    fields = bundle_parts(n_items=N, embedding_dim=8)
    fields.pop("metrics"), fields.pop("dataset")
    centers = rng.normal(size=(GROUPS, 8))
    embedding = centers[np.arange(N) % GROUPS] + 0.3 * rng.normal(size=(N, 8))
    fields["weights"]["item_embedding"] = embedding.astype(np.float32)
    sessions = Sessions.from_lists(past)
    table = frame(range(N + waiting))
    rows = np.where(np.arange(N + waiting) < N, np.arange(N + waiting), -1)
    model = Model.of(
        **{**fields, "popularity": np.bincount(sessions.items, minlength=N)},
        memory=MemoryTables.build(sessions, N),
        ranker_net=plain_ranker(),
        items=ItemTable(N).replaced(table, rows, N),
    )
    return with_content(model)


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model(waiting=20)


def state_of(model: Model, events: list[Event], limits: LearningLimits, cuts: Sequence[int] = ()) -> OnlineState:
    state, all_entries = OnlineState(model, limits), entries(events)
    for begin, end in itertools.pairwise(sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})):
        state.apply(all_entries[begin:end])
    return state


def test_an_item_that_is_clicked_alone_has_the_vector_of_its_attributes(model: Model) -> None:
    state = state_of(model, [Click("a", "sku-203", NOON)], LearningLimits())
    catalog = state.catalog()
    similar = model.item_vectors @ catalog.vectors[0]
    assert {int(item) % GROUPS for item in np.argsort(-similar)[:5]} == {3}
    assert not state.event_processor.content_priors  # a click is evidence of its own


def test_an_item_has_the_vector_of_its_attributes_again_once_its_session_is_forgotten(model: Model) -> None:
    limits = LearningLimits()
    alone = state_of(model, [Click("a", "sku-203", NOON)], limits).catalog().vectors
    clicks: list[Event] = [Click("a", item, NOON + place) for place, item in enumerate(("sku-5", "sku-203"))]
    clicked = compact_model(model, "log", [entries(clicks)], limits, all_over=True)
    assert not np.allclose(clicked.item_vectors[N:], alone, atol=1e-2)
    forgotten = compact_model(clicked, "log", [entries([Forget("a", NOON)])], limits)
    assert np.allclose(forgotten.item_vectors[N:], alone, atol=1e-6)


def test_clicks_outweigh_attributes(model: Model) -> None:
    events: list[Event] = []
    for n in range(64):
        events += [
            Click(f"s{n}", f"sku-{4 + GROUPS * (n % 10)}", NOON + 2 * n),
            Click(f"s{n}", "sku-203", NOON + 2 * n),
        ]
    limits = LearningLimits(item_floor=1000, pair_floor=1000)
    vectors = state_of(model, events, limits).catalog().vectors
    similar = model.item_vectors @ vectors[0]
    assert {int(item) % GROUPS for item in np.argsort(-similar)[:5]} == {4}


def test_items_of_the_table_rank_at_once_if_cold_start_is_on(tmp_path: Path) -> None:
    Bundle.save(tmp_path / "bundle", make_model(), metrics={}, dataset={})
    hits = {}
    for cold in (0, 1):
        limits = LearningLimits(cold_start=cold)
        rec = Recommender.load(
            tmp_path / "bundle", learn=LearningSettings(tmp_path / f"learned-{cold}", compact=False, limits=limits)
        )
        rec.set_items({"id": ["new-3"], "group": ["group-3"]}, mode="patch")
        assert ("new-3" in rec.ids) == bool(cold)
        sessions = [[f"sku-{i}", f"sku-{i + GROUPS}"] for i in range(N - GROUPS)]
        hits[cold] = ["new-3" in rec.recommend(session, k=20).items for session in sessions]
        rec.close()
    in_group = np.arange(N - GROUPS) % GROUPS == 3
    assert np.mean(np.array(hits[1])[in_group]) > 0.6
    assert np.mean(np.array(hits[1])[~in_group]) < 0.05
    assert not any(hits[0])


def test_waiting_items_of_a_bundle_enter_when_it_is_served(model: Model) -> None:
    assert len(state_of(model, [], LearningLimits()).catalog().added) == 0
    state = state_of(model, [], COLD)
    catalog = state.catalog()
    assert catalog.added == tuple(f"sku-{N + i}" for i in range(20))
    assert catalog.vectors.any(axis=1).all()
    priors = state.event_processor.content_priors
    assert np.mean([(neighbor - item) % GROUPS == 0 for item, neighbor, _ in priors]) > 0.8
    assert len(priors) == 5 * 20
    assert catalog.items is not None
    assert len(catalog.items.waiting) == 0
    assert not catalog.unavailable.any()


def test_items_added_by_hand_keep_what_was_given(model: Model, tmp_path: Path) -> None:
    Bundle.save(tmp_path / "bundle", model, metrics={}, dataset={})
    rec = Recommender.load(tmp_path / "bundle", learn=LearningSettings(tmp_path / "learned", compact=False))
    rec.add_items(["sku-203"], neighbors=[["sku-5"]])
    assert rec.similar_items("sku-203", k=1).items == ["sku-5"]
    until_learned(rec, rec.observe("a", ["sku-204"]))
    near = rec.similar_items("sku-204", k=5).items
    assert {int(str(item).removeprefix("sku-")) % GROUPS for item in near} == {4}
    rec.close()


def changed(items: Sequence[int], mode: Any = "patch") -> list[Event]:
    return list(table_parts(TableChange.of(frame(items), mode), NOON))


EVENTS = st.lists(
    st.one_of(
        st.builds(
            lambda session, item: [Click(session, f"sku-{item}", NOON)], st.sampled_from("abcd"), st.integers(190, 230)
        ),
        st.builds(lambda first, count: changed(range(first, first + count)), st.integers(195, 240), st.integers(1, 5)),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=25)
@given(EVENTS, st.lists(st.integers(0, 40), max_size=3), st.integers(0, 1), st.integers(0, 30))
def test_readers_and_compactions_agree(
    model: Model, parts: list[list[Event]], cuts: list[int], cold: int, compacted: int
) -> None:
    events = [event for part in parts for event in part]
    limits = LearningLimits(cold_start=cold, item_floor=1000, pair_floor=1000)
    whole, parted = state_of(model, events, limits), state_of(model, events, limits, cuts)
    first, second = whole.catalog(), parted.catalog()
    assert first.added == second.added
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert whole.event_processor.content_priors == parted.event_processor.content_priors
    begin = entries(events)[:compacted]
    if begin:
        later = OnlineState(compact_model(model, "log", [begin], limits), limits)
        later.apply(entries(events)[compacted:])
        assert later.event_processor.items.internal_ids_of(first.added).tolist() == [
            N + place for place in range(len(first.added))
        ]
