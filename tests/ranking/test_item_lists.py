"""Lists without a session: items that rise."""

from __future__ import annotations

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from tests.support.ranking.timed_model import END, HOUR, N, timed_model


@pytest.fixture(scope="module")
def rec(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    folder = tmp_path_factory.mktemp("timed") / "bundle"
    Bundle.save(folder, timed_model(), metrics={}, dataset={})
    return Recommender.load(folder)


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
