"""Rankings of a model with trends, by the moment of the request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from tests.support.random_bundle import save_random
from tests.support.ranking.timed_model import END, HOUR, N, timed_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timed") / "bundle"
    Bundle.save(folder, timed_model(), metrics={}, dataset={})
    return folder


@pytest.fixture(scope="module")
def rec(folder: Path) -> Recommender:
    return Recommender.load(folder)


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


def test_packed_sessions_are_explored_at_their_own_moments(folder: Path) -> None:
    items = np.array([12, 13, 7], dtype=np.int32)
    sessions = Sessions(items, np.array([0, 2, 3]), np.array([END - HOUR, END, END + HOUR]))
    early, late = (
        Recommender.load(folder).recommend_batch(sessions, k=9, at=END + hours * HOUR, explore=0.5, explore_below=20)
        for hours in (0, 480)
    )
    assert early == late


@pytest.mark.parametrize(("encoder", "index"), [("native", "native"), ("numpy", "numpy")])
def test_packed_sessions_with_times_may_be_columns_of_a_table(folder: Path, encoder: Any, index: Any) -> None:
    rec = Recommender.load(folder, encoder, index)
    table = np.array([[12, END - HOUR], [13, END], [7, END + HOUR]])
    packed = Sessions(table[:, 0].astype(np.int32), np.array([0, 2, 3]), table[:, 1].copy())
    columns = Sessions(packed.items, np.array([[0, 0], [2, 0], [3, 0]])[:, 0], table[:, 1])
    assert rec.recommend_batch(columns, k=9) == rec.recommend_batch(packed, k=9)


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
