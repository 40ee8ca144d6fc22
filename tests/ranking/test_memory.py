"""The session memory in the Recommender: its rankings, reasons, similar items, and calls that do not use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.memory import MemoryTables
from mtaw_fast.ranking.answer import Reason
from mtaw_fast.recommender import Recommender
from tests.memory.reference.candidates import QuerySettings, query
from tests.memory.reference.features import features
from tests.support.memory.together import TABLES, TOGETHER, A, B, C, E
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts

N, D = 250, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "bundle"
    save_parts(
        path,
        **bundle_parts(n_items=N, embedding_dim=D, cooccurrence_candidates=30, dense_candidates=25),
        **memory_parts(N),
    )
    return path


@pytest.fixture(scope="module", params=[("native", "native"), ("numpy", "numpy")], ids="-".join)
def rec(request: pytest.FixtureRequest, folder: Path) -> Recommender:
    return Recommender.load(folder, *request.param)


def named(rec: Recommender, internal: Any) -> list[Any]:
    return rec.ids.external(np.asarray(internal, dtype=np.int32))


def test_answers_are_those_of_the_plain_reference(rec: Recommender) -> None:
    """Encoder, whole catalog by float64, candidates and features in Python, ranker in float64."""
    bundle = rec.bundle
    assert bundle.memory is not None
    assert bundle.ranker_net is not None
    settings = QuerySettings(others=30, dense=25)
    rng = np.random.default_rng(0)
    for length in (1, 3, 17):
        clicks = rng.integers(0, N, length).astype(np.int32)
        vector = rec.encoder.encode(Sessions.from_lists([clicks]))[0].astype(np.float64)
        logits = (bundle.config.model.scale * (bundle.item_vectors.astype(np.float64) @ vector)).astype(np.float32)
        order = np.lexsort((np.arange(N), -logits))
        reference_query = query(bundle.memory, clicks, settings, (order[:25], logits[order[:25]]))
        candidates = reference_query.candidates()
        for item in candidates:
            reference_query.items[item].logit = float(logits[item])
        scores = dict(
            zip(candidates, bundle.ranker_net.scores(features(reference_query, candidates)).tolist(), strict=True)
        )
        out = rec.recommend(named(rec, clicks), N)
        ranked = rec.ids.lookup(out.items)
        assert sorted(ranked.tolist()) == list(range(N))
        count = len(candidates)
        assert set(ranked[:count].tolist()) == set(candidates)
        np.testing.assert_allclose(out.scores[:count], [scores[item] for item in ranked[:count].tolist()], atol=2e-4)
        assert ranked[count:].tolist() == [item for item in order.tolist() if item not in scores]
        assert (np.diff(out.scores) <= 0).all()


class TestTogether:
    @pytest.fixture
    def small(self, tmp_path: Path) -> Recommender:
        parts = bundle_parts(n_items=4, embedding_dim=D) | memory_parts(4) | {"memory": TABLES}
        save_parts(tmp_path / "small", **parts)
        return Recommender.load(tmp_path / "small")

    def test_similar_items(self, small: Recommender) -> None:
        a, b, c, e = named(small, [A, B, C, E])
        out = small.similar_items(a, by="sessions")
        assert out.items == [b, c]
        np.testing.assert_allclose(out.scores, [TOGETHER[A, B], TOGETHER[A, C]], rtol=1e-6)
        assert small.similar_items(a, 1, by="sessions").items == [b]
        assert small.similar_items(a, by="sessions", exclude=[b]).items == [c]
        assert small.similar_items(a, by="sessions", allow=[c, e]).items == [c]
        assert small.similar_items(e, by="sessions").items == []
        assert len(small.similar_items(a)) == 3
        small.remove_items([b])
        assert small.similar_items(a, by="sessions").items == [c]
        small.add_items(["new"], neighbors=[[a]])
        assert small.similar_items("new", by="sessions").items == []
        with pytest.raises(UsageError, match="by must be 'vectors' or 'sessions', not 'magic'"):
            small.similar_items(a, by="magic")  # type: ignore[arg-type]

    def test_without_a_memory(self, tmp_path: Path) -> None:
        save_parts(tmp_path / "plain", **bundle_parts(n_items=4, embedding_dim=D))
        plain = Recommender.load(tmp_path / "plain")
        with pytest.raises(UsageError, match="this bundle has no session memory"):
            plain.similar_items("sku-1", by="sessions")
        out = plain.recommend(["sku-1"], 4, reasons=True)
        assert out.reasons is not None
        assert [reason.kind for reason in out.reasons] == [
            "session" if item == "sku-1" else "encoder" for item in out.items
        ]

    def test_reasons(self, small: Recommender) -> None:
        a, b, c, e = named(small, [A, B, C, E])
        out = small.recommend([c, b, b], 4, reasons=True)
        assert out.reasons is not None
        assert dict(zip(out.items, out.reasons, strict=True)) == {
            a: Reason("together", (b, c)), b: Reason("session"), c: Reason("session"), e: Reason("encoder"),
        }  # fmt: skip
        assert small.recommend([c], 4).reasons is None
        assert small.recommend(["nobody"], 4, reasons=True).reasons is None
        batch = small.recommend_batch([[c, b, b], ["nobody"]], 4, reasons=True)
        live = small.session([c, b, b]).recommend(4, reasons=True)
        small.add_items(["new"], neighbors=[[a]])
        later = small.recommend([c, b, b, "new"], 5, reasons=True)
        assert batch[0].reasons == live.reasons == out.reasons
        assert batch[1].reasons is None
        assert later.reasons is not None
        assert dict(zip(later.items, later.reasons, strict=True))["new"] == Reason("session")

    def test_no_more_than_three_items(self, tmp_path: Path) -> None:
        star = MemoryTables.build(Sessions.from_lists([[0, i] for i in range(1, 6)] + [[0, 2]]), 6)
        save_parts(tmp_path / "star", **(bundle_parts(n_items=6, embedding_dim=D) | memory_parts(6) | {"memory": star}))
        rec = Recommender.load(tmp_path / "star")
        reasons = rec._pipeline.ranker.reasons(np.array([1, 2, 3, 4, 5], np.int32), np.array([0], np.int32))
        assert reasons == [Reason("together", tuple(named(rec, [2, 5, 4])))]
