"""A served catalog that changes, compared with bundles saved with the changed catalog."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.online.state import cold_start
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.ranking.catalog import mean_norm
from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.ranking.changed_catalogs import D, M, N, extended, new_ids, new_vectors
from tests.support.ranking.native_bundles import same

pytestmark = pytest.mark.slow

PAIRS = [("native", "native"), ("native", "numpy"), ("numpy", "faiss-flat"), ("torch", "numpy"), ("onnx", "native")]
NEEDS = {
    "torch": ("torch", "train"),
    "faiss-flat": ("faiss", "cpu"),
    "ann": ("faiss", "cpu"),
    "onnx": ("onnx", "train"),
}


def load(folder: Path, encoder: str, index: str) -> Recommender:
    for name in (encoder, index):
        if name in NEEDS:
            package, extra = NEEDS[name]
            pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")
    if encoder == "onnx" and Bundle.load(folder).file("encoder") is None:
        from mtaw_fast.export.onnx_model import export_onnx

        # The encoder "onnx" runs only the encoder's graph.
        export_onnx(folder, ["float32"], part="encoder")
    return Recommender.load(folder, encoder=encoder, index=index)


KINDS = ["text-ids", "int-ids", "memory"]


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("updates") / "bundle"
    parts = bundle_parts(n_items=N, embedding_dim=D, max_session_length=12, text=request.param == "text-ids")
    if request.param == "memory":
        parts |= memory_parts(N)
    parts["weights"]["item_embedding"][20:30] = parts["weights"]["item_embedding"][10:20]  # ties
    save_parts(path, **parts)
    return path


def sessions_over(rec: Recommender, count: int = 12) -> list[list[Any]]:
    """Return sessions of old, new and unknown clicks, one of them empty."""
    rng = np.random.default_rng(7)
    size = len(rec.ids)
    internal = [rng.integers(0, size, length) for length in rng.integers(1, 20, count)]
    internal[1] = np.array([size - 1])
    internal[2] = np.array([N, 3, N + 1, 4])
    sessions = [rec.ids.external(session) for session in internal]
    sessions[3] = ["nobody", *sessions[3], 3.5]
    return [*sessions, []]


def all_answers(rec: Recommender, k: int = 20) -> list[Recommendations]:
    sessions = sessions_over(rec)
    items = rec.ids.external(np.array([*range(40, 60), N, N + 2]))
    answers = []
    for clicks in sessions:
        answers += [
            rec.recommend(clicks, k, repeats=True),
            rec.recommend(clicks, k, exclude=items, exclude_seen=True),
            rec.recommend(clicks, k, allow=items),
            rec.recommend(clicks, k, filter=rec.filter(exclude=items[::2])),
            rec.session(clicks).recommend(k, exclude=items[:3]),
        ]
    answers += rec.recommend_batch(sessions, k, exclude_seen=True)
    answers += [rec.similar_items(item, k, exclude=items[:2]) for item in items]
    return answers


def combination(kind: str, encoder: str, index: str) -> Any:
    """A kind of bundle and a pair; the slow encoders, which see no item ids, rank one kind only."""
    slow = encoder in ("torch", "onnx") and kind != "memory"
    marks = [pytest.mark.long(caught="here, with a memory, and by the other encoders")] if slow else []
    return pytest.param(kind, encoder, index, marks=marks)


@pytest.mark.parametrize(
    ("folder", "encoder", "index"), [combination(kind, *pair) for kind in KINDS for pair in PAIRS], indirect=["folder"]
)
class TestEqualsABundleOfAllItems:
    def test_added(self, folder: Path, tmp_path: Path, encoder: str, index: str) -> None:
        rec = load(folder, encoder, index)
        ids, vectors = new_ids(rec.bundle), new_vectors(rec.bundle)
        rec.add_items(ids[:4], vectors=vectors[:4])
        rec.add_items(ids[4:], vectors=vectors[4:].astype(np.float64) * 8)  # only the direction counts
        extended(rec.bundle, ids, vectors, tmp_path / "all")
        whole = load(tmp_path / "all", encoder, index)
        assert rec.n_items == whole.n_items == N + M
        assert len(rec.ids) == N + M
        for k in (1, 20, N + M + 5):
            got, want = all_answers(rec, k), all_answers(whole, k)
            assert len(got) == len(want)
            assert all(map(same, got, want))
        recommended = {item for answer in all_answers(rec) for item in answer.items}
        assert recommended & set(ids), "no added item was ever recommended: the test says nothing"
        packed = Sessions.from_lists([[N, 1], [2], [N + M - 1], []])
        for array, expected in zip(rec.rank(packed, 400), whole.rank(packed, 400), strict=True):
            assert array.tobytes() == expected.tobytes()

    def test_added_and_removed(self, folder: Path, tmp_path: Path, encoder: str, index: str) -> None:
        rec = load(folder, encoder, index)
        ids, vectors = new_ids(rec.bundle), new_vectors(rec.bundle)
        removed = [*rec.bundle.ids.external(np.array([0, 15, 16, 299])), ids[0], ids[5]]
        rec.remove_items(removed[:3])
        rec.add_items(ids, vectors=vectors)
        rec.remove_items(removed[3:])
        extended(rec.bundle, ids, vectors, tmp_path / "all")
        whole = load(tmp_path / "all", encoder, index)
        remaining = whole.filter(exclude=removed)
        assert rec.n_items == N + M - len(removed)
        for clicks in sessions_over(rec):
            for k in (1, 20, 500):
                assert same(rec.recommend(clicks, k), whole.recommend(clicks, k, filter=remaining))
            prepared = rec.filter(exclude=ids[:2])
            assert same(
                rec.recommend(clicks, filter=prepared, exclude_seen=True),
                whole.recommend(clicks, filter=remaining & whole.filter(exclude=ids[:2]), exclude_seen=True),
            )
        for item in (removed[0], ids[0], ids[1]):  # a removed item may be the query
            assert same(rec.similar_items(item), whole.similar_items(item, filter=remaining))
        assert len(rec.recommend(rec.bundle.ids.external(np.array([5])), k=10**6)) == N + M - len(removed)


@pytest.fixture
def rec(folder: Path) -> Recommender:
    return load(folder, "native", "native")


def test_the_mean_of_neighbors(rec: Recommender) -> None:
    known = rec.bundle.ids.external(np.array([3, 8, 8, 100]))
    new = new_ids(rec.bundle)
    rec.add_items(new[:1], neighbors=[known])
    rows = rec.bundle.item_vectors[[3, 8, 8, 100]].astype(np.float64)
    catalog = rec._pipeline.catalog
    np.testing.assert_allclose(catalog.vectors[0], rows.sum(0) / np.linalg.norm(rows.sum(0)), rtol=0, atol=2e-7)
    norm = mean_norm(rec.bundle.weights["item_embedding"])
    assert norm == pytest.approx(np.linalg.norm(rec.bundle.weights["item_embedding"], axis=1).mean(), rel=1e-6)
    assert np.linalg.norm(catalog.embeddings[0]) == pytest.approx(norm, rel=1e-6)
    # An added item may be a neighbor too; as the only one, it gives its own direction.
    rec.add_items(new[1:2], neighbors=[new[:1]])
    assert rec.similar_items(new[0], k=1).items == [new[1]]
    assert rec.similar_items(new[0], k=1).scores[0] == pytest.approx(1, abs=1e-6)


def test_sessions_and_filters_outlive_an_item_that_comes_back(rec: Recommender) -> None:
    """They know the item by its external id, whatever its internal one is now."""
    item, neighbor, other = rec.bundle.ids.external(np.array([50, 77, 9]))
    new = new_ids(rec.bundle)[0]
    rec.add_items([new], neighbors=[[neighbor]])
    clicks = [item, other, new]
    visit = rec.session(clicks)
    visit.recommend(k=3)
    without, solely = rec.filter(exclude=[item, new]), rec.filter(allow=[item, new])
    for _ in range(2):
        rec.remove_items([item, new])
        rec.add_items([item, new], neighbors=[[neighbor], [other]])
        options: Any
        for options in ({"repeats": True, "reasons": True}, {"exclude_seen": True}, {"rules": {"pin": {str(new): 2}}}):
            assert same(visit.recommend(k=N + 1, **options), rec.recommend(clicks, k=N + 1, **options))
        assert {item, new}.isdisjoint(rec.recommend([other], k=N + 1, filter=without).items)
        assert set(rec.recommend([other], k=N + 1, filter=solely).items) == {item, new}
    assert visit.clicks == clicks


def test_filters_made_before_an_item_was_added(rec: Recommender) -> None:
    first, neighbor = rec.bundle.ids.external(np.array([0, 9]))
    without = rec.filter(exclude=[first])
    solely = rec.filter(allow=[first, neighbor])
    both = without & rec.filter(exclude=[neighbor])
    new = new_ids(rec.bundle)
    rec.add_items(new[:1], neighbors=[[neighbor]])
    assert new[0] in rec.recommend([neighbor], k=N + 1, filter=without).items
    assert first not in rec.recommend([neighbor], k=N + 1, filter=without).items
    assert set(rec.recommend([neighbor], k=N + 1, filter=solely).items) == {first, neighbor}
    later = rec.filter(allow=[new[0], first])
    rec.add_items(new[1:2], neighbors=[[neighbor]])
    assert set(rec.recommend([neighbor], k=N, filter=later).items) == {new[0], first}
    assert len(rec.recommend([neighbor], k=N + 9, filter=both)) == N


@pytest.mark.parametrize("index", ["native", "numpy"])
def test_nothing_can_be_recommended(folder: Path, index: str) -> None:
    rec = load(folder, "native", index)
    everything = rec.bundle.ids.external(np.arange(N))
    session, rules = everything[:2], {"pin": {str(everything[5]): 1}}
    rec.hide(everything)
    answers = [rec.recommend(session, exclude_seen=True), rec.similar_items(everything[0])]
    answers += [answer for sessions in ([session], [[]]) for answer in rec.recommend_batch(sessions, rules=rules)]
    answers += [rec.recommend(session, rules=rules, reasons=True), rec.similar_items(everything[0], rules=rules)]
    assert [answer.items for answer in answers] == [[]] * len(answers)
    assert {answer.short for answer in answers[2:]} == {"rules"}


@pytest.mark.parametrize("index", ["native", "numpy"])
def test_more_items_than_the_memory_has_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str) -> None:
    monkeypatch.setattr(cold_start, "_NEW_ITEMS", 4)
    save_parts(tmp_path, **bundle_parts(n_items=N, embedding_dim=D), **memory_parts(N))
    rec = Recommender.load(tmp_path, index=index)
    neighbors = [["sku-1", "sku-2"]]
    rec.add_items(["a"], neighbors=neighbors)
    rec.add_items(["b", "c", "d"], vectors=new_vectors(rec.bundle, 3))
    before = rec.recommend(["a", "sku-1"], k=N + 4)
    for way in ({"neighbors": neighbors * 2}, {"vectors": new_vectors(rec.bundle, 2)}):
        with pytest.raises(
            DataError, match=r"2 more items would make 6 added ones; .* room for 4; load the bundle again"
        ):
            rec.add_items(["e", "f"], **way)
    assert same(rec.recommend(["a", "sku-1"], k=N + 4), before)
    again = Recommender.load(tmp_path, index=index)
    again.add_items(list("abcdef"), neighbors=neighbors * 6)
    assert len(again.recommend(["f", "sku-1"], k=N + 6)) == N + 6


def test_what_cannot_be_done_changes_nothing(rec: Recommender) -> None:
    old = rec.bundle.ids.external(np.array([1, 2]))
    new = new_ids(rec.bundle)
    rec.add_items(new[:1], neighbors=[old])
    rec.remove_items(old[:1])
    good = np.ones((2, D), dtype=np.float32)
    foreign = 5 if rec.bundle.ids.kind == "str" else "five"
    bad_vectors: dict[str, Any] = {
        "must be float.2, 16.": np.ones((3, D), dtype=np.float32),
        "not int64": np.ones((2, D), dtype=np.int64),
        "is zero or not finite": np.concatenate([good[:1], good[:1] * 0]),
        "zero or not finite; leave": np.concatenate([good[:1], good[:1] * np.inf]),
        "is zero or not finite;": np.concatenate([good[:1], good[:1]]).astype(np.float64) * 1e300,
    }
    tries: list[tuple[str, Callable[[], None]]] = [
        ("already in the catalog; remove it first", lambda: rec.add_items([new[1], old[1]], vectors=good)),
        ("already in the catalog; remove it first", lambda: rec.add_items([new[1], new[0]], vectors=good)),
        ("is listed twice; list it once", lambda: rec.add_items([new[1], new[1]], vectors=good)),
        ("this catalog's item ids are", lambda: rec.add_items([new[1], foreign], vectors=good)),
        ("this catalog's item ids are", lambda: rec.add_items([True, new[1]], vectors=good)),
        ("either vectors or neighbors", lambda: rec.add_items(new[1:3])),
        ("either vectors or neighbors", lambda: rec.add_items(new[1:3], vectors=good, neighbors=[old, old])),
        ("neighbors for 1 items, not for 2", lambda: rec.add_items(new[1:3], neighbors=[old])),
        ("has no neighbors; name at least one", lambda: rec.add_items(new[1:3], neighbors=[old, []])),
        ("does not know 'nobody', a neighbor of", lambda: rec.add_items(new[1:3], neighbors=[old, ["nobody"]])),
        ("is not in the catalog, so it cannot be removed", lambda: rec.remove_items([old[1], "nobody"])),
        ("is not in the catalog, so it cannot be removed", lambda: rec.remove_items([old[1], old[0]])),
    ]
    for message, vectors in bad_vectors.items():
        tries.append((message, lambda vectors=vectors: rec.add_items(new[1:3], vectors=vectors)))
    state = rec._pipeline
    for message, change in tries:
        with pytest.raises(DataError, match=message) as caught:
            change()
        assert "\n" not in str(caught.value)
        assert rec._pipeline is state
    with pytest.raises(UsageError, match="items must be a list of item ids"):
        rec.add_items(new[0] if isinstance(new[0], str) else 5, vectors=good)  # type: ignore[arg-type]
    neighbor = rec.bundle.ids.external(np.array([1]))[0]
    for wrong in ([neighbor], neighbor, [None]):
        with pytest.raises(UsageError, match="neighbors must be a list of item ids"):
            rec.add_items(new[:1], neighbors=wrong)  # type: ignore[arg-type]


def test_a_live_session_is_ranked_by_a_catalog_no_older_than_its_clicks(
    rec: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog grows and another thread clicks the new item while a call waits for the session."""
    old, (new,) = rec.bundle.ids.external(np.array([4, 5])), new_ids(rec.bundle)[:1]
    visit = rec.session(old)
    answers: list[Any] = []
    with visit._lock:
        waiting = threading.Thread(target=lambda: answers.append(visit.recommend(k=30)))
        waiting.start()
        waiting.join(0.2)
        rec.add_items([new], neighbors=[old])
        visit._append(rec.catalog, [new], [None])
    waiting.join()
    assert same(answers[0], rec.recommend([*old, new], k=30))


def test_readers_see_whole_states_in_order(folder: Path) -> None:
    """Every answer during updates is the answer of one state, and no reader sees an older state later."""
    new_count, rounds = 24, 3
    plan = load(folder, "native", "native")
    new = new_ids(plan.bundle, new_count)
    vectors = new_vectors(plan.bundle, new_count)
    click = plan.bundle.ids.external(np.array([3, 4]))

    def steps(rec: Recommender) -> list[Callable[[], None]]:
        changes: list[Callable[[], None]] = []
        for i in range(0, new_count, 2):
            changes.append(lambda i=i: rec.add_items(new[i : i + 2], vectors=vectors[i : i + 2]))
            changes.append(lambda i=i: rec.remove_items([new[i]]))
        return changes

    def view(answer: Recommendations) -> tuple[Any, ...]:
        return (tuple(answer.items), answer.scores.tobytes())

    states = [view(plan.recommend(click, k=N + new_count))]
    for change in steps(plan):
        change()
        states.append(view(plan.recommend(click, k=N + new_count)))
    assert len(set(states)) == len(states)
    number = {state: place for place, state in enumerate(states)}
    for _ in range(rounds):
        rec = load(folder, "native", "native")
        done = threading.Event()

        def read(rec: Recommender = rec, done: threading.Event = done) -> list[int]:
            seen = []
            while not done.is_set():
                seen.append(number[view(rec.recommend(click, k=N + new_count))])
            return [*seen, number[view(rec.recommend(click, k=N + new_count))]]

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(3)]
            for change in steps(rec):
                change()
            done.set()
            for reader in readers:
                seen = reader.result()
                assert seen == sorted(seen)
                assert seen[-1] == len(states) - 1


def test_neighbors_that_cancel_out(tmp_path: Path) -> None:
    parts = bundle_parts(n_items=N, embedding_dim=D)
    parts["weights"]["item_embedding"][1] = -parts["weights"]["item_embedding"][0]
    save_parts(tmp_path / "bundle", **parts)
    rec = Recommender.load(tmp_path / "bundle")
    with pytest.raises(DataError, match="the neighbors of item 'x' cancel out"):
        rec.add_items(["x"], neighbors=[["sku-0", "sku-1"]])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_history_equals_one_bundle(tmp_path: Path, data: st.DataObject) -> None:
    n_items, d = 12, 4
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    bundle = save_parts(
        tmp_path / "bundle", **bundle_parts(n_items=n_items, embedding_dim=d, text=False), overwrite=True
    )
    rec = Recommender(bundle, *(getattr(Recommender.load(tmp_path / "bundle"), part) for part in ("encoder", "index")))
    present = bundle.ids.external(np.arange(n_items))
    removed: list[Any] = []
    ids: list[Any] = []
    vectors = np.empty((0, d), dtype=np.float32)
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()) or len(present) < 2:
            count = data.draw(st.integers(1, 3))
            fresh = [10**6 + len(ids) + i for i in range(count)]
            rows = rng.integers(-2, 3, (count, d)).astype(np.float32)  # coarse: ties and equal directions
            rows[~rows.any(axis=1)] = 1
            rec.add_items(fresh, vectors=rows)
            ids, vectors, present = [*ids, *fresh], np.concatenate([vectors, rows]), [*present, *fresh]
        else:
            item = present.pop(data.draw(st.integers(0, len(present) - 1)))
            rec.remove_items([item])
            removed.append(item)
    whole = Recommender.load(extended(bundle, ids, vectors, tmp_path / "all").folder)
    remaining = whole.filter(exclude=removed)
    session = [int(item_id) for item_id in rng.choice([*present, *removed], 3)]
    assert rec.n_items == len(present)
    for k in (1, 5, 40):
        assert same(rec.recommend(session, k), whole.recommend(session, k, filter=remaining))
        assert same(rec.recommend([], k), whole.recommend([], k, filter=remaining))
