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
from mtaw_fast.ranking import options
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


def test_by_default_it_is_now(rec: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    session, now = ["sku-12", "sku-13"], END + 5 * HOUR
    monkeypatch.setattr(options.time, "time_ns", lambda: now * 1_000_000)
    by_default = rec.recommend(session, k=9)
    assert by_default == rec.recommend(session, k=9, at=now)
    assert by_default != rec.recommend(session, k=9, at=END)


class Compared(int):
    """A whole number that tells if it is looked for in a range, number by number: that takes minutes."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared with one number after another")

    __hash__ = int.__hash__


def test_any_type_of_whole_numbers_is_a_moment(rec: Recommender) -> None:
    expected = rec.recommend(["sku-12"], k=9, at=END)
    assert rec.recommend(["sku-12"], k=9, at=Compared(END)) == expected
    assert rec.recommend(["sku-12"], k=9, at=np.int64(END)) == expected  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at must be Unix milliseconds"):
        rec.recommend(["sku-12"], at=Compared(END // 1000))


@pytest.mark.parametrize("at", [1.5, "now", True, -1, 10**15, 1_764_150_000])
def test_what_is_no_moment_is_refused(rec: Recommender, at: Any) -> None:
    with pytest.raises(UsageError, match="at must be Unix milliseconds"):
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
