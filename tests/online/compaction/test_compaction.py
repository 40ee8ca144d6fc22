"""Compaction: sessions that are over end in the tables that a training from them builds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Model
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.memory import MemorySettings, MemoryTables
from mtaw_fast.online.compaction.compaction import compact_model
from mtaw_fast.online.log.events import AddItems, Click, Event, Forget, now_ms
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.ranking.pipeline import Pipeline
from tests.support.online.recommenders import (
    HOUR,
    MODEL,
    NOON,
    D,
    N,
    entries,
    plain_ranker,
    stream,
)
from tests.support.random_bundle import bundle_parts

ALL = LearningLimits(item_floor=1000, pair_floor=1000)  # few items, clicked by many sessions at once


def test_tables_after_a_compaction_are_those_of_a_rebuild() -> None:
    assert MODEL.memory is not None
    events = stream(6)
    compacted = compact_model(MODEL, "log", [entries(events)], ALL, all_over=True)
    assert compacted.memory is not None
    new_items = [name for name in dict.fromkeys(event.item for event in events) if str(name).startswith("new")]
    places: dict[Any, int] = {**{f"sku-{i}": i for i in range(N)}, **{name: N + i for i, name in enumerate(new_items)}}
    sessions: dict[str, list[Click]] = {}
    for event in events:
        assert isinstance(event, Click)
        sessions.setdefault(event.session, []).append(event)
    ordered = sorted(sessions.values(), key=lambda clicks: (clicks[-1].time, clicks[0].time))
    packed = Sessions.from_lists([[places[click.item] for click in clicks] for clicks in ordered])
    rebuilt = MemoryTables.build(
        Sessions.concatenate([MODEL.memory.sessions, packed]), N + len(new_items), compacted.memory.settings
    )
    assert compacted.memory.settings == replace(MODEL.memory.settings, once_from=MODEL.memory.n_sessions)
    for name, array in rebuilt.arrays().items():
        assert np.array_equal(getattr(compacted.memory, name), array), name
    assert compacted.ids.lookup(new_items).tolist() == list(range(N, N + len(new_items)))
    counts = np.bincount([item for session in packed for item in set(session.tolist())], minlength=N + len(new_items))
    counts[:N] += MODEL.popularity
    assert np.array_equal(compacted.popularity, counts)


@pytest.mark.parametrize("cut", [0, 40, 111, 200])
def test_compacting_in_pieces_or_at_once_is_the_same(cut: int) -> None:
    events = stream(7)
    cut = min(cut, len(events))
    events.insert(cut // 2, Forget("s2", NOON))
    limits = LearningLimits(session_gap=HOUR // 6)
    at_once = compact_model(MODEL, "log", [entries(events)], limits, all_over=True)
    first = compact_model(MODEL, "log", [entries(events)[:cut]], limits)
    both = compact_model(first, "log", [entries(events)[cut:]], limits, all_over=True)
    for name, array in at_once.memory.arrays().items():
        assert np.array_equal(getattr(both.memory, name), array), name
    assert np.array_equal(both.popularity, at_once.popularity)
    assert both.ids.external(np.arange(both.n_items, dtype=np.int32)) == at_once.ids.external(
        np.arange(at_once.n_items, dtype=np.int32)
    )
    assert both.log_progress.position == at_once.log_progress.position
    assert np.array_equal(both.log_progress.keys, at_once.log_progress.keys)
    assert np.array_equal(both.log_progress.sessions, at_once.log_progress.sessions)


def test_an_item_added_by_hand_keeps_its_direction_without_sessions() -> None:
    vector = 7 * np.eye(D)[1]
    added: list[Event] = [
        AddItems(("by-vector", "later"), None, (tuple(vector.tolist()), tuple(vector.tolist())), NOON),
        AddItems(("by-neighbors",), (("sku-1", "sku-2"),), None, NOON),
    ]
    state = OnlineState(MODEL, ALL)
    state.apply(entries(added))
    given = state.catalog()
    first = compact_model(MODEL, "log", [entries(added)], ALL)
    assert np.allclose(first.item_vectors[N:], given.vectors, atol=1e-6)
    assert np.allclose(first.weights["item_embedding"][N:], given.embeddings, atol=1e-5)
    clicks: list[Event] = [
        Click("s", item, NOON + place) for place, item in enumerate(("sku-9", "by-vector", "by-neighbors"))
    ]
    clicked = compact_model(first, "log", [entries(clicks)], ALL, all_over=True)
    assert not np.allclose(clicked.item_vectors[N:], given.vectors, atol=1e-2)
    forgotten = compact_model(clicked, "log", [entries([Forget("s", NOON)])], ALL)
    expired = compact_model(clicked, "log", [entries([Click("z", "sku-1", NOON + 9)])], ALL, keep=1)
    for model in (forgotten, expired):
        assert model.memory is not None
        assert model.memory.n_sessions == len(MODEL.sessions)
        assert np.allclose(model.item_vectors[N:], given.vectors, atol=1e-6)


def test_old_sessions_are_dropped() -> None:
    events = stream(9)
    limits = LearningLimits()
    first = compact_model(MODEL, "log", [entries(events)], limits, all_over=True)
    last = Click("z", "sku-1", events[-1].time + 10 * HOUR)
    clicks = [Click("z", "sku-1", events[-1].time + step * HOUR // 2) for step in range(1, 21)]
    after = compact_model(first, "log", [entries([*clicks, last])], limits, keep=5 * HOUR, all_over=True)
    assert len(first.log_progress.sessions) > 0
    assert after.memory.n_sessions < first.memory.n_sessions + 21
    assert all(after.log_progress.last >= after.log_progress.clock - 5 * HOUR)
    assert after.memory.n_sessions >= MODEL.memory.n_sessions, "sessions of the training are not from the log"


def test_a_machine_clock_that_was_ahead_makes_no_session_old() -> None:
    past, future = now_ms() - HOUR, now_ms() + 10_000 * HOUR
    learned = [Click(f"s{place}", f"sku-{place}", past, arrived=past) for place in range(5)]
    first = compact_model(MODEL, "log", [entries(learned)], ALL, all_over=True)
    ahead = [Click("z", f"sku-{place}", future, arrived=future) for place in range(3)]
    after = compact_model(first, "log", [entries(ahead)], ALL, keep=100 * HOUR, all_over=True)
    assert after.log_progress.clock == future
    assert len(after.log_progress.sessions) == len(learned) + 1


@pytest.mark.parametrize("seed", range(3))
def test_an_online_state_ranks_as_the_compacted_model_does(seed: int) -> None:
    """Up to rounding: sums of tables and delta are rounded separately, those of a rebuild together.

    Clicks are independent here, so that the last places are near ties: the worst case.
    """
    n = 1000
    rng = np.random.default_rng([10, seed])

    def sessions(count: int) -> list[np.ndarray]:
        return [(n * rng.random(rng.integers(1, 9)) ** 3).astype(int) for _ in range(count)]

    fields = bundle_parts(n_items=n, embedding_dim=D)
    fields.pop("metrics"), fields.pop("dataset")
    past = MemoryTables.build(Sessions.from_lists(sessions(4000)), n, MemorySettings(max_neighbors=0))
    model = Model.of(**fields, memory=past, ranker_net=plain_ranker())
    events: list[Event] = [
        Click(f"s{number}", f"sku-{item}", NOON + number * 60_000 + place * 1_000)
        for number, session in enumerate(sessions(200))
        for place, item in enumerate(session)
    ]
    state = OnlineState(model, LearningLimits())
    state.apply(entries(events))
    compacted = compact_model(model, "log", [entries(events)], LearningLimits(), all_over=True)
    live = Pipeline.of(state.catalog(), *_parts(model))
    built = Pipeline.of(OnlineState(compacted, LearningLimits()).catalog(), *_parts(compacted))
    _, items, offsets = state.delta.ordered()
    learned = [clicks.tolist() for clicks in Sessions(items, offsets)]  # such a query would count as the session itself
    queries = Sessions.from_lists([session for session in sessions(400) if session.tolist() not in learned])
    (ours, scores), (theirs, expected) = live.rank(queries, 20), built.rank(queries, 20)
    assert np.abs(scores - expected).max() < 0.02, "2^-8 of a sum, as the plain ranker weighs it"
    assert np.mean(ours == theirs) >= 0.985


def _parts(model: Model) -> tuple:
    from mtaw_fast.kernels.native.scan import quantize
    from mtaw_fast.ranking.encoders import NativeEncoder
    from mtaw_fast.ranking.retrieval import NativeIndex

    return NativeEncoder(model.config, model.weights), NativeIndex(model.item_vectors, quantize(model.item_vectors))
