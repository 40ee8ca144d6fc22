"""The Recommender: one contract for every pair of encoder and index, and loads during an export."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.additions import Addition, replace_parts
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import BundleError, DataError, UsageError
from mtaw_fast.kernels.native import reference
from mtaw_fast.ranking import served_pipeline
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.ranking.encoders import ENCODERS
from mtaw_fast.ranking.retrieval import EXACT_INDEXES, AnnFile, Index, make_index
from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import bundle_parts, save_parts, save_random
from tests.support.ranking.native_bundles import same

ROOT = Path(__file__).parent.parent
N = 400


@pytest.fixture(scope="module", params=[True, False], ids=["text-ids", "int-ids"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recommender") / "bundle"
    parts = bundle_parts(n_items=N, embedding_dim=16, max_session_length=30, text=request.param)
    embedding = parts["weights"]["item_embedding"]
    embedding[100:140] = embedding[60:100]  # duplicates: every answer has ties
    embedding[7] = 0
    save_parts(path, **parts)
    return path


@pytest.fixture(scope="module")
def sessions() -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, N, length).tolist() for length in (3, 1, 0, 12, 1, 40, 3, 700, 2, 0)]


@pytest.mark.parametrize("index", EXACT_INDEXES)
@pytest.mark.parametrize("encoder", ENCODERS)
class TestEveryPair:
    """The contract of a Recommender with any backends."""

    @pytest.fixture
    def rec(self, folder: Path, encoder: str, index: str) -> Recommender:
        if encoder == "torch":
            pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'mtaw-fast[train]'")
        if index == "faiss-flat":
            pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")
        loaded = Recommender.load(folder, encoder=encoder, index=index)
        assert (loaded.encoder.name, loaded.index.name) == (encoder, index)
        return loaded

    def expected(
        self, rec: Recommender, clicks: list[int], k: int, allowed: list[int] | None = None
    ) -> tuple[list[Any], np.ndarray]:
        """The ranking by definition: every allowed item scored in float64, sorted."""
        query = rec.encoder.encode(Sessions.from_lists([clicks]))
        candidates = np.arange(N) if allowed is None else np.array(sorted(allowed), dtype=np.int64)
        ids, scores = reference.rerank_topk(
            query, rec.bundle.item_vectors, candidates.astype(np.int32)[None], k, rec.bundle.config.model.scale
        )
        count = min(k, len(candidates))
        return rec.ids.external(ids[0, :count]), scores[0, :count]

    def external(self, rec: Recommender, clicks: list[int]) -> list[Any]:
        return rec.ids.external(np.array(clicks, dtype=np.int64))

    def check(self, out: Recommendations, expected: tuple[list[Any], np.ndarray]) -> None:
        assert out.items == expected[0]
        assert out.scores.dtype == np.float32
        assert out.scores.tobytes() == expected[1].tobytes()
        assert not out.fallback

    def test_ranks_the_whole_catalog(self, rec: Recommender, sessions: list[list[int]]) -> None:
        for clicks in filter(None, sessions):
            out = rec.recommend(self.external(rec, clicks), k=20)
            self.check(out, self.expected(rec, clicks, 20))
            assert (out.unknown, out.timings, out.repeats) == ([], None, None)
            assert len(out) == 20

    def test_filters(self, rec: Recommender) -> None:
        clicks, k = [3, 9, 3, 250], 15
        session = self.external(rec, clicks)
        best = rec.ids.lookup(rec.recommend(session, k=40).items).tolist()
        banned, listed = best[::2], best[5:30]
        exclude, allow = self.external(rec, banned), self.external(rec, listed)
        rest = [i for i in range(N) if i not in banned]
        both = [i for i in listed if i not in banned]
        unseen = [i for i in range(N) if i not in clicks]
        self.check(rec.recommend(session, k, exclude=exclude), self.expected(rec, clicks, k, rest))
        self.check(rec.recommend(session, k, exclude=iter(exclude)), self.expected(rec, clicks, k, rest))
        self.check(rec.recommend(session, k, allow=allow), self.expected(rec, clicks, k, listed))
        self.check(rec.recommend(session, k, exclude=exclude, allow=allow), self.expected(rec, clicks, k, both))
        self.check(rec.recommend(session, N, exclude_seen=True), self.expected(rec, clicks, N, unseen))
        self.check(
            rec.recommend(session, N, exclude=exclude, exclude_seen=True),
            self.expected(rec, clicks, N, [i for i in unseen if i not in banned]),
        )
        prepared = rec.filter(exclude=exclude)
        self.check(rec.recommend(session, k, filter=prepared), self.expected(rec, clicks, k, rest))
        self.check(rec.recommend(session, k, filter=prepared, allow=allow), self.expected(rec, clicks, k, both))
        self.check(
            rec.recommend(session, k, filter=rec.filter(allow=allow), exclude=exclude, exclude_seen=True),
            self.expected(rec, clicks, k, [i for i in both if i not in clicks]),
        )

    def test_filters_that_leave_little_or_nothing(self, rec: Recommender) -> None:
        session, everything = self.external(rec, [3, 9]), self.external(rec, list(range(N)))
        self.check(rec.recommend(session, 20, allow=everything[:4]), self.expected(rec, [3, 9], 20, [0, 1, 2, 3]))
        assert len(rec.recommend(session, 20, exclude=everything[4:])) == 4
        assert rec.recommend(session, 20, allow=everything[3:4], exclude_seen=True).items == []
        for options in ({"allow": []}, {"exclude": everything}, {"filter": rec.filter(allow=())}):
            for clicks in (session, []):
                out = rec.recommend(clicks, 20, **options)
                assert out.items == []
                assert out.scores.shape == (0,)

    def test_unknown_ids(self, rec: Recommender) -> None:
        session = self.external(rec, [4, 8])
        mixed = ["nobody", session[0], -5, None, session[1], 2.5, True, "nobody"]
        out = rec.recommend(mixed)
        assert out.unknown == ["nobody", -5, None, 2.5, True, "nobody"]
        assert same(
            Recommendations(out.items, out.scores, []), rec.recommend(session, exclude=["nobody", None], allow=None)
        )
        assert rec.recommend(session, allow=["nobody", session[0]]).items == [session[0]]

    @pytest.mark.parametrize("session", [[], ["nobody"], (), ["nobody", "no one"]])
    def test_fallback(self, rec: Recommender, session: list[Any]) -> None:
        if rec.ids.kind == "int":
            session = [-5 - place for place, _ in enumerate(session)]
        clicks = rec.bundle.popularity
        order = sorted(range(N), key=lambda i: (-clicks[i], i))
        out = rec.recommend(session, k=30, repeats=True)
        assert out.fallback
        assert out.unknown == list(session)
        assert out.items == self.external(rec, order[:30])
        assert out.scores.tolist() == [float(clicks[i]) for i in order[:30]]
        assert out.repeats is not None
        assert not out.repeats.any()
        banned = self.external(rec, order[:25:2])
        rest = [i for i in order if i not in order[:25:2]]
        assert rec.recommend(session, 30, exclude=banned).items == self.external(rec, rest[:30])
        assert rec.recommend(session, 30, filter=rec.filter(exclude=banned)).items == self.external(rec, rest[:30])
        assert rec.recommend(session, N, exclude=banned, exclude_seen=True).items == self.external(rec, rest)

    def test_batch_equals_single_answers(self, rec: Recommender, sessions: list[list[int]]) -> None:
        named = [self.external(rec, clicks) for clicks in sessions]
        named[3] = ["nobody", *named[3]]
        for options in (
            {},
            {"exclude_seen": True},
            {"exclude": self.external(rec, list(range(0, N, 9))), "exclude_seen": True},
            {"filter": rec.filter(exclude=self.external(rec, list(range(50)))), "k": 7},
        ):
            batch = rec.recommend_batch(named, **options)
            assert len(batch) == len(named)
            for answer, session in zip(batch, named, strict=True):
                assert same(answer, rec.recommend(session, **options))
            packed = rec.recommend_batch(Sessions.from_lists(sessions), **options)
            for answer, other in zip(packed, batch, strict=True):
                assert same(answer, Recommendations(other.items, other.scores, [], other.fallback))
        assert rec.recommend_batch([]) == []
        assert rec.recommend_batch(Sessions.from_lists([])) == []

    def test_rank_is_recommend_on_internal_ids(self, rec: Recommender, sessions: list[list[int]]) -> None:
        packed = Sessions.from_lists(sessions)
        ids, scores = rec.rank(packed, 21)
        assert (ids.dtype, ids.shape, scores.dtype) == (np.int32, (len(packed), 21), np.float32)
        for out, row, values in zip(rec.recommend_batch(packed, 21), ids, scores, strict=True):
            assert out.items == rec.ids.external(row)
            assert out.scores.tobytes() == values.tobytes()
        wide_ids, wide_scores = rec.rank(packed, N + 3)
        assert wide_ids.shape == (len(packed), N + 3)
        assert (wide_ids[:, N:] == -1).all()
        assert (wide_scores[:, N:] == -np.inf).all()
        assert (wide_ids[:, :21] == ids).all()
        copies = 1024 // len(packed) + 2  # more than the sessions that are ranked together
        assert (
            rec.rank(Sessions.from_lists(sessions * copies), 21)[1].tobytes() == np.tile(scores, (copies, 1)).tobytes()
        )
        assert rec.rank(Sessions.from_lists([]), 5)[0].shape == (0, 5)

    def test_repeats_and_timings(self, rec: Recommender) -> None:
        session = self.external(rec, [3, 9, 3, 250])
        out = rec.recommend(session, N, repeats=True, timings=True)
        assert out.repeats is not None
        assert out.repeats.tolist() == [item in session for item in out.items]
        assert out.timings is not None
        assert set(out.timings) == {"lookup", "encode", "retrieve", "assemble", "total"}
        assert min(out.timings.values()) >= 0
        assert out.timings["total"] >= sum(v for name, v in out.timings.items() if name != "total") * 0.999
        batch = rec.recommend_batch([session, session[:1]], N, repeats=True)
        assert batch[1].repeats is not None
        assert batch[1].repeats.sum() == 1

    def test_similar_items(self, rec: Recommender) -> None:
        item, twin = self.external(rec, [65, 105])
        out = rec.similar_items(item, k=N)
        assert not out.fallback
        assert out.items[0] == twin
        assert sorted(rec.ids.lookup(out.items).tolist()) == [i for i in range(N) if i != 65]
        items = rec.bundle.weights["item_embedding"].astype(np.float64)
        lengths = np.linalg.norm(items, axis=1)
        cosines = items @ items[65] / np.where(lengths > 0, lengths, 1) / lengths[65]
        np.testing.assert_allclose(out.scores, cosines[rec.ids.lookup(out.items)], rtol=0, atol=1e-6)
        assert (np.diff(out.scores) <= 0).all()
        assert same(rec.similar_items(item, 5), Recommendations(out.items[:5], out.scores[:5], []))
        assert rec.similar_items(item, 5, exclude=[twin]).items == out.items[1:6]
        assert rec.similar_items(item, 5, allow=out.items[8:10]).items == out.items[8:10]
        assert rec.similar_items(item, 5, filter=rec.filter(exclude=[twin])).items == out.items[1:6]
        for unknown in ("nobody", None, -1):
            with pytest.raises(UsageError, match="the catalog does not know item"):
                rec.similar_items(unknown)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Recommender:
    return Recommender.load(folder, encoder="numpy", index="numpy")


@pytest.mark.parametrize("k", [0, -1, 2.0, "20", None, True])
def test_k_must_be_a_positive_whole_number(plain: Recommender, k: Any) -> None:
    session = plain.ids.external(np.array([1]))
    for call in (
        lambda: plain.recommend(session, k),
        lambda: plain.recommend([], k),
        lambda: plain.recommend_batch([session], k),
        lambda: plain.similar_items(session[0], k),
        lambda: plain.rank(Sessions.from_lists([[1]]), k),
    ):
        with pytest.raises(UsageError, match="k must be a whole number of at least 1"):
            call()


@pytest.mark.parametrize("value", ["sku-1", b"sku-1", 7, None, np.array(3)])
def test_a_single_id_instead_of_a_list(plain: Recommender, value: Any) -> None:
    with pytest.raises(UsageError, match=r"session must be a list of item ids, not .*; write \["):
        plain.recommend(value)
    with pytest.raises(UsageError, match="session 1 must be a list of item ids"):
        plain.recommend_batch([[], value])
    with pytest.raises(UsageError, match="exclude must be a list"):
        plain.recommend([], exclude=value)
    with pytest.raises(UsageError, match="exclude must be a list"):
        plain.filter(exclude=value)
    if value is not None:
        with pytest.raises(UsageError, match="allow must be a list"):
            plain.recommend([], allow=value)


def test_sessions_of_any_iterable(plain: Recommender) -> None:
    session = plain.ids.external(np.array([5, 6, 7]))
    expected = plain.recommend(session)
    for form in (tuple(session), iter(session), np.array(session), dict.fromkeys(session)):
        assert same(plain.recommend(form), expected)


def test_packed_ids_outside_the_catalog(plain: Recommender) -> None:
    for bad in (-1, N):
        with pytest.raises(DataError, match=f"internal item id {bad}, outside"):
            plain.recommend_batch(Sessions.from_lists([[1], [bad]]))
        with pytest.raises(DataError, match=f"internal item id {bad}, outside"):
            plain.rank(Sessions.from_lists([[bad]]), 3)


def test_filters_of_the_wrong_kind(plain: Recommender, tmp_path: Path) -> None:
    save_random(tmp_path / "other", n_items=9)
    other = Recommender.load(tmp_path / "other", index="numpy")
    with pytest.raises(UsageError, match="the filter is for a catalog of 9 items"):
        plain.recommend([], filter=other.filter())
    parts = bundle_parts(n_items=plain.n_items)
    parts["ids"] = ItemIds.from_list(list(parts["ids"])[::-1])
    save_parts(tmp_path / "reordered", **parts)
    reordered = Recommender.load(tmp_path / "reordered", index="numpy").filter(exclude=["sku-1"])
    with pytest.raises(UsageError, match="the filter is for a bundle with other item ids"):
        plain.recommend([], filter=reordered)
    with pytest.raises(UsageError, match="the filter is for a bundle with other item ids"):
        plain.filter() & reordered
    again = Recommender.load(plain.bundle.folder, index="numpy").filter(exclude=["sku-1"])
    assert plain.recommend([], 5, filter=again).items == plain.recommend([], 5, exclude=["sku-1"]).items
    with pytest.raises(UsageError, match="filter must be made with filter"):
        plain.recommend([], filter=["sku-1"])  # type: ignore[arg-type]


def test_serving_imports_no_heavy_package(folder: Path) -> None:
    script = (
        "import sys\n"
        "import mtaw_fast\n"
        "from mtaw_fast import Recommender\n"
        "heavy = {'torch', 'faiss', 'onnxruntime', 'polars', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "Recommender.load(sys.argv[1], index='numpy').recommend(['sku-3', 17])\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert process.stdout.split("\n") == ["[]", "[]", ""], process.stderr


@pytest.mark.parametrize("exports", [1, 5])
def test_a_bundle_whose_index_is_replaced_meanwhile_is_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exports: int
) -> None:
    save_random(tmp_path)
    waiting = [bytes([number]) for number in range(exports)]

    def export(data: bytes) -> None:
        addition = Addition("faiss", lambda path: path.write_bytes(data))
        replace_parts(tmp_path, Bundle.load(tmp_path).manifest, {"index": addition}, {"index": {}})

    def reading(name: str, catalog: Any, quantized: Any, ann: AnnFile) -> Index:
        if waiting:
            export(waiting.pop())
        if not ann.path.exists():
            raise BundleError(f"{ann.path} is missing")
        return make_index("native", catalog, quantized)

    export(b"first")
    monkeypatch.setattr(served_pipeline, "make_index", reading)
    if exports < 5:
        assert len(Recommender.load(tmp_path, index="ann").recommend([], 3)) == 3
        return
    with pytest.raises(BundleError, match="is missing"):
        Recommender.load(tmp_path, index="ann")
    assert not waiting
