"""The native call on an updated catalog: it equals the composed path to the bit, and an update is cheap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.ranking.composed_ranker import ComposedRanker
from mtaw_fast.ranking.native_ranker import NativeRanker
from mtaw_fast.recommender import Recommender
from tests.support.ranking.native_bundles import N, answered, assert_same, named, same


def updated(rec: Recommender, history: str) -> Recommender:
    """Apply the same changes to a recommender's catalog: N of the bundle's items, then the added ones."""
    new = [f"new-{i}" if rec.ids.kind == "str" else 10**12 + i for i in range(60)]
    rng = np.random.default_rng(12)
    vectors = rng.standard_normal((60, 20)).astype(np.float32)
    vectors[5], vectors[6] = rec.bundle.weights["item_embedding"][[60, 61]]  # ties with the bundle's items
    vectors[40] = vectors[39]
    if history == "removed":
        rec.remove_items(named(rec, [0, 7, 60, 101, N - 1]))
        return rec
    rec.add_items(new[:37], vectors=vectors[:37])
    if history == "added":
        rec.add_items(new[37:], vectors=vectors[37:])
        return rec
    rec.remove_items([*named(rec, [3, 61, 100, 400]), *new[:3], new[36]])
    rec.add_items([*new[37:], new[1], *named(rec, [61])], vectors=np.concatenate([vectors[37:], vectors[:2]]))
    return rec


@pytest.fixture(scope="module", params=["added", "removed", "added again"])
def both(request: pytest.FixtureRequest, folder: Path) -> tuple[Recommender, Recommender]:
    native, composed = (
        updated(Recommender.load(folder, "native", index), request.param) for index in ("native", "numpy")
    )
    assert isinstance(native._pipeline.ranker, NativeRanker)
    assert isinstance(composed._pipeline.ranker, ComposedRanker)
    assert native._pipeline.catalog.is_updated
    assert len(native.ids) == len(composed.ids)
    return native, composed


class TestUpdatedCatalog:
    """After `add_items` and `remove_items` the native call equals the composed path to the bit."""

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_native_equals_composed(self, both: tuple[Recommender, Recommender], data: st.DataObject) -> None:
        size = len(both[0].ids)
        late = st.integers(N, size - 1) if size > N else st.integers(0, N - 1)
        item = st.integers(0, size - 1) | late
        id_lists = st.none() | st.lists(item, max_size=size)
        internal = data.draw(st.lists(item | st.sampled_from([-1, -2]), max_size=30))
        k = data.draw(st.integers(1, size + 5))
        lists = {name: data.draw(id_lists) for name in ("exclude", "allow", "filter")}
        fixed = {"exclude_seen": data.draw(st.booleans()), "repeats": data.draw(st.booleans())}
        unknown = {-1: "nobody", -2: 2.5}
        clicks = [unknown.get(number) or named(both[0], [number])[0] for number in internal]
        answers = []
        for rec in both:
            options: dict[str, Any] = {name: named(rec, ids) for name, ids in lists.items() if ids is not None} | fixed
            if "filter" in options:
                options["filter"] = rec.filter(exclude=options["filter"])
            live = rec.session(clicks[: len(clicks) // 2])
            answered(live.recommend, k, **options)
            answers.append(
                [
                    answered(rec.recommend, clicks, k, **options),
                    answered(rec.recommend_batch, [clicks, clicks[:1], clicks[1:]], k, **options),
                    answered(live.click(*clicks[len(clicks) // 2 :]).recommend, k, **options),
                ]
            )
        assert_same(*answers)
        unavailable = np.flatnonzero(both[0]._pipeline.catalog.unavailable)
        listed = [] if answers[0][0] is None else answers[0][0].items
        assert not set(both[0].ids.lookup(listed).tolist()) & set(unavailable.tolist())

    def test_packed_sessions(self, both: tuple[Recommender, Recommender]) -> None:
        size = len(both[0].ids)
        rng = np.random.default_rng(4)
        packed = Sessions.from_lists([rng.integers(0, size, n) for n in (1, 0, 3, 20, 2, 0, 7, 1, 1)])
        for k in (1, 30, size):
            for seen in (False, True):
                first, second = (rec.rank(packed, k, exclude_seen=seen) for rec in both)
                assert [array.tobytes() for array in first] == [array.tobytes() for array in second]


def test_a_growing_session_over_states_of_the_catalog(folder: Path) -> None:
    """With items added or removed between two clicks, the answer equals that of a new session."""
    rec = Recommender.load(folder, "native", "native")
    rng = np.random.default_rng(3)
    new = [f"new-{i}" if rec.ids.kind == "str" else 10**12 + i for i in range(30)]
    live, idle, places = rec.session(), rec.session(named(rec, [1, 2])), list[Any]()
    idle.recommend()
    for turn in range(30):
        rec.add_items(new[turn : turn + 1], vectors=rng.standard_normal((1, 20)).astype(np.float32))
        if turn % 4 == 3:
            rec.remove_items(new[turn - 1 : turn])
            rec.add_items(new[turn - 1 : turn], vectors=rng.standard_normal((1, 20)).astype(np.float32))
        click = new[rng.integers(0, turn + 1)] if turn % 3 else named(rec, [rng.integers(0, N)])[0]
        place = rec.ids.lookup([click])
        places.append(int(place[0]))
        assert isinstance(rec._pipeline.ranker, NativeRanker)
        answer = live.click(click).recommend(12, exclude_seen=turn % 2 == 0)
        packed = Sessions.from_lists([places])
        ids, scores = rec.rank(packed, 12, exclude_seen=turn % 2 == 0)
        assert rec.ids.lookup(answer.items).tolist() == ids[0].tolist()
        assert answer.scores.tobytes() == scores[0].tobytes()
    assert same(idle.recommend(), rec.recommend(named(rec, [1, 2])))


def test_a_state_of_the_catalog_costs_no_encoder(folder: Path) -> None:
    """Parts that do not depend on the added items are shared."""
    rec = Recommender.load(folder, "native", "native")
    new = [f"new-{i}" if rec.ids.kind == "str" else 10**12 + i for i in range(40)]
    vectors = np.random.default_rng(2).standard_normal((40, 20)).astype(np.float32)
    rec.add_items(new[:20], vectors=vectors[:20])
    before = rec._pipeline.ranker  # type: ignore[attr-defined]
    rec.add_items(new[20:], vectors=vectors[20:])
    rec.remove_items(new[:1])
    after = rec._pipeline.ranker  # type: ignore[attr-defined]
    assert after.engine is not before.engine
    assert after.memory is before.memory
    assert after.ranker_net is before.ranker_net
    new_items = [f"more-{i}" if rec.ids.kind == "str" else 10**13 + i for i in range(1100)]
    rec.add_items(new_items, vectors=np.random.default_rng(3).standard_normal((1100, 20)).astype(np.float32))
    if rec.bundle.memory is not None:
        assert before.capacity > N + 40
        assert rec._pipeline.ranker.capacity >= rec._pipeline.catalog.size  # type: ignore[attr-defined]
    assert len(rec.recommend(new_items[:2], 5).items) == 5
