"""Any encoder and index in the native call: on any catalog, with unusual lists, threads and mapped files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.rank import Engine
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.retrieval import NumpyIndex
from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import bundle_parts, save_parts
from tests.support.ranking.native_bundles import N, answered, assert_same, named, same

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def updated(rec: Recommender, history: str) -> Recommender:
    """Apply the same changes to a recommender's catalog: N of the bundle's items, then the added ones."""
    new = [f"new-{i}" if rec.ids.kind == "str" else 10**12 + i for i in range(60)]
    rng = np.random.default_rng(12)
    vectors = rng.standard_normal((60, 20)).astype(np.float32)
    vectors[5], vectors[6] = rec.bundle.weights["item_embedding"][[60, 61]]  # ties with the bundle's items
    vectors[40] = vectors[39]
    if history == "none":
        return rec
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


class OtherEncoder:
    """Gives the bits of the native encoder from outside of the native call."""

    name = "other"

    def __init__(self, encoder: NativeEncoder) -> None:
        self.native = encoder

    def extended(self, added: np.ndarray) -> OtherEncoder:
        return OtherEncoder(self.native.extended(added))

    def encode(self, sessions: Sessions) -> np.ndarray:
        return self.native.encode(sessions)


@pytest.fixture(scope="module", params=["none", "added", "removed", "added again"])
def both(request: pytest.FixtureRequest, folder: Path) -> tuple[Recommender, Recommender]:
    native = Recommender.load(folder, "native", "native")
    assert isinstance(native.encoder, NativeEncoder)
    other = Recommender(native.bundle, OtherEncoder(native.encoder), NumpyIndex(native.bundle.item_vectors))
    return updated(native, request.param), updated(other, request.param)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_another_encoder_and_index_give_equal_bits(both: tuple[Recommender, Recommender], data: st.DataObject) -> None:
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


def test_packed_sessions(both: tuple[Recommender, Recommender]) -> None:
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
        answer = live.click(click).recommend(12, exclude_seen=turn % 2 == 0)
        packed = Sessions.from_lists([places])
        ids, scores = rec.rank(packed, 12, exclude_seen=turn % 2 == 0)
        assert rec.ids.lookup(answer.items).tolist() == ids[0].tolist()
        assert answer.scores.tobytes() == scores[0].tobytes()
    assert same(idle.recommend(), rec.recommend(named(rec, [1, 2])))


def test_elements_that_change_the_list(native: Recommender) -> None:
    """The conversion of an id may run Python code that changes the session during the native call."""
    session: list[Any] = []

    class Shrinking(np.int64):
        def __index__(self) -> int:
            session.clear()
            return 17

    class Growing(np.int64):
        def __index__(self) -> int:
            if len(session) < 50:
                session.append(1)
            return 17

    for element in (Shrinking(17), Growing(17)):
        for place in (0, 1, 2):
            session[:] = named(native, [1, 2])
            session.insert(place, element)
            out = native.recommend(session, 3)
            assert len(out.items) == 3


def test_odd_sessions(both: tuple[Recommender, Recommender]) -> None:
    native, other = both
    ok = named(native, [5, 6])
    numpy_ids = [np.str_(ok[0])] if isinstance(ok[0], str) else [np.uint64(2**64 - 1), np.int8(7), np.True_]
    for item in (b"sku-5", float("inf"), [1], 10**30, "\ud800", "x" * 10**6, *numpy_ids):
        assert same(native.recommend([item, *ok]), other.recommend([item, *ok]))
    long = ok * 5000
    assert same(native.recommend(long, 7), other.recommend(long, 7))


def test_threads_agree(native: Recommender) -> None:
    rng = np.random.default_rng(8)
    jobs = [named(native, rng.integers(0, N, rng.integers(1, 30))) for _ in range(60)]
    prepared = native.filter(exclude=named(native, range(0, N, 3)))
    options: list[dict[str, Any]] = [{}, {"exclude_seen": True}, {"filter": prepared}, {"k": N, "repeats": True}]

    def answers(_: int) -> list[Recommendations]:
        return [native.recommend(job, **options[turn % 4]) for turn, job in enumerate(jobs)]

    alone = answers(0)
    start = threading.Barrier(8)

    def together(number: int) -> list[Recommendations]:
        start.wait()
        return answers(number)

    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(together, range(8)):
            assert all(same(answer, expected) for answer, expected in zip(got, alone, strict=True))


class TestEngine:
    """The binding checks all arguments from Python."""

    @pytest.fixture
    def engine(self, native: Recommender) -> Engine:
        return native._pipeline.ranker.engine

    def test_no_sessions(self, engine: Engine) -> None:
        assert engine.rank(np.empty(0, np.int32), np.zeros(1, np.int64), 9)[0].shape == (0, 9)

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"k": 0}, "k must be at least 1, not 0"),
            ({"excluded": np.array([3, 1], np.int32)}, "excluded ids must ascend"),
            ({"excluded": np.array([1.0])}, "excluded must be a C-contiguous int32 vector, not float64"),
            ({"allowed": np.zeros(3, np.uint8)}, f"allowed has 3 bytes, not one bit for {N} items"),
            ({"allowed": np.zeros(51, bool)}, "allowed must be a C-contiguous uint8 vector, not bool"),
        ],
    )
    def test_conditions(self, native: Recommender, engine: Engine, options: dict[str, Any], reason: str) -> None:
        options = {"k": 5, **options}
        state = native.encoder.session().native  # type: ignore[attr-defined]
        for call in (
            lambda: engine.recommend(named(native, [1]), **options),
            lambda: engine.recommend(np.array([1], np.int32), state=state, n_new=1, **options),
            lambda: engine.rank(np.array([1], np.int32), np.array([0, 1]), **options),
        ):
            with pytest.raises(ValueError, match=reason):
                call()

    def test_sessions(self, native: Recommender, engine: Engine) -> None:
        state = native.encoder.session().native  # type: ignore[attr-defined]
        click = np.array([1], np.int32)
        with pytest.raises(TypeError, match="a session must be a list or a tuple"):
            engine.recommend("sku-1", 3)
        for offsets in ([0], [0, 2], [1, 1], [0, 0, 1], [0, 1, 1], []):
            with pytest.raises(ValueError, match="offsets must rise from 0 to the number of items"):
                engine.rank(click, np.array(offsets, np.int64), 3)
        for fresh in (-1, 2):
            with pytest.raises(ValueError, match="session needs"):
                engine.recommend(click, 3, state=state, n_new=fresh)
        with pytest.raises(ValueError, match="session needs"):
            engine.recommend(click[:0], 3, state=state)
        for bad in (-1, N):
            with pytest.raises(IndexError):
                engine.rank(np.array([bad], np.int32), np.array([0, 1]), 3)
            with pytest.raises(IndexError):
                engine.recommend(np.array([bad], np.int32), 3, state=state, n_new=1)

    def test_parts_of_different_catalogs(self, native: Recommender, tmp_path: Path) -> None:
        save_parts(tmp_path / "other", **bundle_parts(n_items=9, embedding_dim=20))
        other = Recommender.load(tmp_path / "other")
        parts = [native.ids.table, native.encoder.encoder.native, native.index.scanner.native]  # type: ignore[attr-defined]
        others = [other.ids.table, other.encoder.encoder.native, other.index.scanner.native]  # type: ignore[attr-defined]
        for swapped, reason in enumerate(("there are 9 ids for", "the encoder is for", "the encoder is for")):
            mixed = [*parts[:swapped], others[swapped], *parts[swapped + 1 :]]
            with pytest.raises(ValueError, match=reason):
                Engine(*mixed, 16.0)  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="scale must be positive"):
            Engine(*parts, float("nan"))  # type: ignore[call-arg]
        for swapped in range(3):
            with pytest.raises(RuntimeError):
                Engine(*[*parts[:swapped], "x", *parts[swapped + 1 :]], 16.0)  # type: ignore[call-arg]

    def test_wrong_stages_of_another_encoder_and_index(self, native: Recommender, engine: Engine) -> None:
        click, ids = np.array([1], np.int32), native.ids.table

        def search(queries: np.ndarray, k: int, *_: Any) -> tuple[np.ndarray, np.ndarray]:
            raise KeyError(k)

        with pytest.raises(ValueError, match=r"queries must be of the shape \[1, 20\]"):
            engine.recommend(click, 3, other=(lambda *_: np.zeros((2, 20), np.float32), None))
        with pytest.raises(ValueError, match="ids must be a C-contiguous int32 matrix"):
            engine.recommend(click, 3, other=(None, lambda *_: (np.zeros((1, 3)), np.zeros((1, 3)))))
        with pytest.raises(KeyError):
            engine.recommend(click, 3, other=(None, search))
        bare = Engine(ids, None, None, 16.0, rows=native.bundle.item_vectors)
        with pytest.raises(ValueError, match="no encoder; give the call one"):
            bare.recommend(click, 3)
        with pytest.raises(ValueError, match="no index; give the call one"):
            bare.recommend(click, 3, other=(lambda *_: np.zeros((1, 20), np.float32), None))
        with pytest.raises(ValueError, match="needs the items' rows"):
            Engine(ids, None, None, 16.0)

    def test_calls_within_a_call(self, native: Recommender, engine: Engine) -> None:
        """An encoder that ranks during the call does not disturb it."""
        clicks = np.array([1, 2, 3], np.int32)

        def encode(items: np.ndarray, offsets: np.ndarray) -> np.ndarray:
            engine.rank(np.arange(50, dtype=np.int32), np.array([0, 20, 50]), N)
            return native.encoder.encode(Sessions(items, offsets))

        expected, out = engine.recommend(clicks, N), engine.recommend(clicks, N, other=(encode, None))
        assert out[0] == expected[0]
        assert out[1].tobytes() == expected[1].tobytes()

    def test_it_keeps_its_parts_alive(self, folder: Path, native: Recommender) -> None:
        rec = Recommender.load(folder)
        engine = rec._pipeline.ranker.engine
        session = named(rec, [3, 4])
        del rec
        junk = [np.full(4096, 7, np.uint8) for _ in range(2000)]
        assert engine.recommend(session, 20)[0] == native.recommend(session).items
        assert len(junk) == 2000


_WORKER = """
import sys
from mtaw_fast import Recommender

def private(path):
    '''Bytes of this process alone: anonymous ones, and those of mapped bundle files that were written to.'''
    anonymous, dirty, inside = 0, 0, False
    for line in open('/proc/self/smaps'):
        head, _, rest = line.partition(':')
        if '-' in head and ' ' in line.split('-')[1][:20]:
            inside = path in line
        elif head == 'Anonymous':
            anonymous += int(rest.split()[0]) << 10
            dirty += (int(rest.split()[0]) << 10) * inside
    return anonymous, dirty

folder = sys.argv[1]
Recommender.load(sys.argv[2]).recommend(['sku-1'])  # libraries and the thread's own memory
before = private(folder)
rec = Recommender.load(folder, verify=False)
rec.recommend(['sku-1', 'sku-5'], exclude_seen=True)
after = private(folder)
print(after[0] - before[0], after[1])
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc/self/smaps")
def test_workers_share_the_mapped_bundle(tmp_path: Path) -> None:
    """Loading adds no private copy of anything that grows with the catalog, with the codes that the bundle stores."""
    large = save_parts(tmp_path / "large", **bundle_parts(n_items=60_000, embedding_dim=32))
    save_parts(tmp_path / "small", **bundle_parts(n_items=100, embedding_dim=32))
    mapped = sum(path.stat().st_size for path in large.folder.iterdir())
    process = subprocess.run(
        [sys.executable, "-c", _WORKER, str(tmp_path / "large"), str(tmp_path / "small")],
        capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MTAW_FIRST_PASS": "int8"},
    )  # fmt: skip
    added, dirty = map(int, process.stdout.split())
    assert mapped > 18_000_000
    assert added < 1_000_000
    assert dirty == 0
