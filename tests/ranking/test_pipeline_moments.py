"""Rankings of a model with trends: by the moment of the request, and rising items without a known click."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle, Model
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.ranking import options
from tests.support.random_bundle import bundle_parts, memory_parts, save_random

N = 50
HOUR = 3_600_000
END = 1_764_150_000_000


def timed_model() -> Model:
    """Sessions over ten days: item 7 is clicked only in the last hour, item 3 only before."""
    rng = np.random.default_rng(5)
    sessions, times = [], []
    for session in range(400):
        start = END - (400 - session) * HOUR * 24 * 10 // 400
        hot = [7] if start > END - HOUR else [3]
        items = [*rng.permutation(np.arange(10, N))[: rng.integers(1, 5)].tolist(), *hot]
        sessions.append(items)
        times.append(start + 30_000 * np.arange(len(items)))
    for minute in range(40):
        sessions.append([7, int(rng.integers(10, N))])
        times.append(END - HOUR + minute * 60_000 + np.array([0, 20_000]))
    packed, clicked_at = Sessions.from_lists(sessions), np.concatenate(times).astype(np.int64)
    parts = bundle_parts(n_items=N, embedding_dim=8)
    parts.pop("metrics"), parts.pop("dataset")
    features = feature_names(trends=True)
    plain = memory_parts(N)["ranker_net"].arrays()
    more = len(features) - len(plain["mean"])
    wide = {name: np.concatenate([plain[name], np.ones(more, np.float32)]) for name in ("mean", "scale", "linear")}
    wide["w1"] = np.concatenate([plain["w1"], 0.1 * rng.normal(size=(more, plain["w1"].shape[1])).astype(np.float32)])
    return Model.of(
        **{**parts, "popularity": np.bincount(packed.items, minlength=N)},
        memory=MemoryTables.build(packed, N), ranker_net=RankerNet(features=features, **{**plain, **wide}),
        clicked_at=clicked_at, trends=TrendTables.build(packed, clicked_at, N),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timed") / "bundle"
    Bundle.save(folder, timed_model(), metrics={}, dataset={})
    return folder


@pytest.fixture(scope="module")
def rec(folder: Path) -> Recommender:
    return Recommender.load(folder)


def test_no_click_ranks_what_is_rising(rec: Recommender) -> None:
    out = rec.recommend([], k=N, at=END)
    assert out.fallback
    assert out.items[0] == "sku-7"
    assert sorted(out.items) == sorted(f"sku-{i}" for i in range(N)), "every item, each once"
    assert (np.diff(out.scores) <= 0).all()
    few = rec.recommend(["nobody knows this"], k=3, at=END)
    assert (few.items, few.unknown) == (out.items[:3], ["nobody knows this"])


def test_what_may_not_be_shown_does_not_rise(rec: Recommender) -> None:
    assert rec.recommend([], k=1, at=END, exclude=["sku-7"]).items != ["sku-7"]
    allowed = ["sku-1", "sku-7", "sku-20"]
    assert sorted(rec.recommend([], k=9, at=END, allow=allowed).items) == sorted(allowed)
    assert rec.recommend([], k=9, at=END, filter=rec.filter(allow=["sku-1"])).items == ["sku-1"]


def test_a_ranking_depends_on_its_moment(rec: Recommender) -> None:
    session = ["sku-12", "sku-13"]
    early, late = (rec.recommend(session, k=N, at=END + hours * HOUR) for hours in (0, 48))
    assert early.scores.tolist() != late.scores.tolist()
    again = rec.recommend(session, k=N, at=END)
    assert (again.items, again.scores.tolist()) == (early.items, early.scores.tolist())
    assert rec.recommend(session, k=N, at=0).scores.tolist() == rec.recommend(session, k=N, at=1).scores.tolist(), (
        "a moment before the newest click is that click's"
    )


def test_a_batch_a_growing_session_and_one_alone_agree(rec: Recommender) -> None:
    sessions = [["sku-12", "sku-13"], [], ["sku-7"], ["sku-3", "sku-44", "sku-3"]]
    batch = rec.recommend_batch(sessions, k=9, at=END)
    for session, out in zip(sessions, batch, strict=True):
        alone, visit = rec.recommend(session, k=9, at=END), rec.session(session).recommend(k=9, at=END)
        assert out.items == alone.items == visit.items
        assert out.scores.tolist() == alone.scores.tolist() == visit.scores.tolist()


def test_by_default_it_is_now(rec: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    session, now = ["sku-12", "sku-13"], END + 5 * HOUR
    monkeypatch.setattr(options.time, "time_ns", lambda: now * 1_000_000)
    by_default = rec.recommend(session, k=9)
    assert by_default == rec.recommend(session, k=9, at=now)
    assert by_default != rec.recommend(session, k=9, at=END)


@pytest.mark.parametrize("at", [1.5, "now", True, -1, 10**15])
def test_what_is_no_moment_is_refused(rec: Recommender, at: object) -> None:
    with pytest.raises(UsageError, match="at must be Unix milliseconds"):
        rec.recommend(["sku-1"], at=at)


def test_a_model_without_times_takes_a_moment_and_ignores_it(tmp_path: Path) -> None:
    save_random(tmp_path, n_items=N, embedding_dim=8)
    plain = Recommender.load(tmp_path)
    assert plain.recommend(["sku-1"], at=END).items == plain.recommend(["sku-1"]).items


def test_items_can_be_added_and_removed(folder: Path) -> None:
    rec = Recommender.load(folder)
    before = rec.recommend(["sku-12"], k=N, at=END)
    rec.add_items(["new"], neighbors=[["sku-12", "sku-13"]])
    rec.remove_items(["sku-7"])
    after = rec.recommend(["sku-12", "new"], k=N + 1, at=END)
    assert "new" in after.items
    assert "sku-7" in before.items
    assert "sku-7" not in after.items
    assert "sku-7" not in rec.recommend([], k=N + 1, at=END).items
