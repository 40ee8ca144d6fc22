"""Compaction: sessions that are over end in the tables that a training from them builds."""

from __future__ import annotations

import numpy as np
import pytest

from mtaw_fast.bundle import Model
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.memory import MemorySettings, MemoryTables
from mtaw_fast.online.compaction import compaction
from mtaw_fast.online.compaction.compaction import UnconfirmedTimeError, compact_model
from mtaw_fast.online.log.events import AddItems, Click, ConfirmClock, Event, Forget, now_ms
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import NativeIndex
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


def test_a_machine_clock_that_is_ahead_ages_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 sessions, then two clicks by a clock that is 40 days ahead, and compactions while it is and afterwards."""
    past, future = now_ms() - HOUR, now_ms() + 960 * HOUR
    learned = [Click(f"s{place}", f"sku-{place % N}", past, arrived=past) for place in range(200)]
    first = compact_model(MODEL, "log", [entries(learned)], ALL, all_over=True)
    ahead: list[Event] = [Click("z", f"sku-{place}", future, arrived=future) for place in range(2)]

    def compacted(events: list[Event]) -> Model:
        return compact_model(first, "log", [entries(events)], ALL, keep=720 * HOUR, all_over=True)

    after = compacted(ahead)
    assert len(after.log_progress.sessions) == len(learned) + 1
    assert after.log_progress.last.max() <= past + HOUR
    monkeypatch.setattr(compaction, "now_ms", lambda: future)
    with pytest.raises(UnconfirmedTimeError, match=r"arrived 40\.0 days after those before them"):
        compacted(ahead)
    again = [Click("y", "sku-1", future, arrived=future)] * 2
    confirmed = compacted([*ahead, ConfirmClock(future), *again])
    assert len(confirmed.log_progress.sessions) == 2, "the shop was closed for 40 days: what it learned before is old"


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
    live, built = (
        Pipeline.of(
            learner.catalog(),
            NativeEncoder(learner.model.config, learner.model.weights),
            NativeIndex(learner.model.item_vectors, quantize(learner.model.item_vectors)),
        )
        for learner in (state, OnlineState(compacted, LearningLimits()))
    )
    _, items, offsets = state.delta.ordered()
    learned = [clicks.tolist() for clicks in Sessions(items, offsets)]  # such a query would count as the session itself
    queries = Sessions.from_lists([session for session in sessions(400) if session.tolist() not in learned])
    (ours, scores), (theirs, expected) = live.rank(queries, 20), built.rank(queries, 20)
    assert np.abs(scores - expected).max() < 0.02, "2^-8 of a sum, as the plain ranker weighs it"
    assert np.mean(ours == theirs) >= 0.985
