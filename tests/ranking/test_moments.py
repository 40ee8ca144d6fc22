"""Rankings of a model with trends, by the moment of the request, and the items that rise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.online.log.events import now_ms
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.ranking import options
from mtaw_fast.ranking.catalog import Catalog
from tests.support.export.bundles import save_kind
from tests.support.ranking.timed_model import END, HOUR, N, timed_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timed") / "bundle"
    Bundle.save(folder, timed_model(), metrics={}, dataset={})
    return folder


@pytest.fixture(scope="module")
def rec(folder: Path) -> Recommender:
    return Recommender.load(folder)


def test_a_ranking_depends_on_its_moment_by_default_now(rec: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    session = ["sku-12", "sku-13"]
    early, late = (rec.recommend(session, k=N, at=END + hours * HOUR) for hours in (0, 48))
    assert early.scores.tolist() != late.scores.tolist()
    again = rec.recommend(session, k=N, at=END)
    assert (again.items, again.scores.tolist()) == (early.items, early.scores.tolist())
    assert rec.recommend(session, k=N, at=0).scores.tolist() == rec.recommend(session, k=N, at=1).scores.tolist(), (
        "a moment before the newest click is that click's"
    )
    monkeypatch.setattr(options.time, "time_ns", lambda: (END + 48 * HOUR) * 1_000_000)
    assert rec.recommend(session, k=N) == late


def test_a_few_clicks_of_today_do_not_make_an_old_bundle_young(tmp_path: Path) -> None:
    bundle = save_kind("timed", tmp_path / "timed", 300)
    rec = Recommender.load(bundle.folder, learn=LearningSettings(tmp_path / "log", compact=False))
    assert bundle.model.trends is not None
    old = rec.last_click
    assert old == np.sort(bundle.model.trends.times[:, 1])[-4]
    for item, until in enumerate([old, old, old, now_ms()]):
        rec.observe(f"s{item}", [f"sku-{item}"])
        assert rec.learner is not None
        rec.learner.catch_up()
        assert until is not None
        assert rec.last_click == pytest.approx(until, abs=60_000)
    rec.close()


def test_packed_sessions_are_explored_at_their_own_moments(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Catalog, "new_items", np.arange(0, N, 3, dtype=np.int32))
    items = np.array([12, 13, 7], dtype=np.int32)
    sessions = Sessions(items, np.array([0, 2, 3]), np.array([END - HOUR, END, END + HOUR]))
    early, late = (
        Recommender.load(folder).recommend_batch(
            sessions, k=9, at=END + hours * HOUR, explore=0.5, explore_below=20, explore_seed=1
        )
        for hours in (0, 480)
    )
    assert early == late
    assert any(answer.explored is not None and answer.explored.any() for answer in early)


@pytest.mark.parametrize("at", [1.5, "now", True, -1, 10**14, 10**9, np.int64(10**15), 10**18])
def test_what_is_no_moment_is_refused(rec: Recommender, at: Any) -> None:
    units = {10**9: "seconds", 10**15: "microseconds", 10**18: "nanoseconds"}
    words = f"at {at} is in {units[at]}; write it in milliseconds, {10**12}$" if at in units else "at must be Unix mill"
    with pytest.raises(UsageError, match=words):
        rec.recommend(["sku-1"], at=at)


def test_no_click_ranks_what_is_rising(rec: Recommender) -> None:
    out = rec.recommend([], k=N, at=END)
    assert out.fallback
    assert out.items[0] == "sku-7"
    assert sorted(out.items) == sorted(f"sku-{i}" for i in range(N)), "every item, each once"
    assert (np.diff(out.scores) <= 0).all()
    few = rec.recommend(["nobody knows this"], k=3, at=END)
    assert (few.items, few.unknown) == (out.items[:3], ["nobody knows this"])


def test_when_the_trends_have_faded_the_most_clicked_come_first(rec: Recommender) -> None:
    out = rec.recommend([], k=5, at=END + 2400 * HOUR)
    assert out.items == rec.ids.external(rec.bundle.model.most_clicked[:5])
    assert out.scores.tolist() == [-1, -2, -3, -4, -5]


def test_what_may_not_be_shown_does_not_rise(rec: Recommender) -> None:
    assert rec.recommend([], k=1, at=END, exclude=["sku-7"]).items != ["sku-7"]
    allowed = ["sku-1", "sku-7", "sku-20"]
    assert sorted(rec.recommend([], k=9, at=END, allow=allowed).items) == sorted(allowed)
    assert rec.recommend([], k=9, at=END, filter=rec.filter(allow=["sku-1"])).items == ["sku-1"]
