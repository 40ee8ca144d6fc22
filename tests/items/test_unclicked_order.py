"""The order of items without clicks: fitted to past sessions, and used where such items are explored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.items import ItemTable
from mtaw_fast.items.columns import NO_TIME
from mtaw_fast.items.content_features import ContentFeatures
from mtaw_fast.items.content_vectors import ContentVectors
from mtaw_fast.items.frame import ItemFrame
from mtaw_fast.items.unclicked_order import UnclickedOrder, fit_unclicked_order
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.recommender import Recommender
from tests.support.ranking.timed_model import END, HOUR, N, timed_model


def test_the_fit_finds_what_sessions_go_by() -> None:
    """Visitors click the newest item of the category that they are in."""
    rng = np.random.default_rng(0)
    n_items, n_sessions = 600, 900
    created = np.sort(rng.integers(0, 100 * HOUR, n_items))
    category = rng.integers(0, 3, n_items).astype(np.int32)
    created[:5] = NO_TIME
    items, times = [], []
    for moment in np.sort(rng.integers(50 * HOUR, 100 * HOUR, n_sessions)).tolist():
        candidates = np.flatnonzero((created <= moment) & (created != NO_TIME))
        in_category = candidates[category[candidates] == rng.integers(0, 3)][::-1]
        items.append(in_category[: 2 if rng.random() < 0.9 else 5][-2:][::-1])
        times.append([moment, moment + 1])
    lengths = np.array([len(session) for session in items])
    order: Any = fit_unclicked_order(
        {"category": category}, "made", created, np.concatenate(items).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]), np.concatenate(times), NO_TIME,
    )  # fmt: skip
    same, share, age = order.weights
    assert same + share > 1
    assert age < -0.5
    assert UnclickedOrder.of_dict(order.as_dict()) == order
    few = fit_unclicked_order({}, "made", created, np.array([9, 8], np.int32), np.array([0, 2]), np.arange(2), NO_TIME)
    assert few is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with five items that nobody clicked: 0 to 4 are a, 5 to 9 b, and a higher number is newer."""
    folder = tmp_path_factory.mktemp("order") / "bundle"
    frame = ItemFrame.of(
        {
            "id": [f"sku-{i}" for i in range(N)],
            "kind": ["a" if i < 5 or i % 2 else "b" for i in range(N)],
            "made": [END - 400 * HOUR + i * HOUR for i in range(N)],
        },
        kinds={"made": "time", "kind": "category"},
    )
    table = ItemTable(0).replaced(frame, np.arange(N), N)
    order = UnclickedOrder(("kind",), "made", (0.5, 0.5, -1.0))
    content = ContentVectors(ContentFeatures(()), np.zeros((1, 8), np.float32), 1.0, {}, order=order)
    Bundle.save(folder, replace(timed_model(), items=table, content=content), metrics={}, dataset={})
    return folder


@pytest.fixture
def unclicked_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    unclicked = property(lambda catalog: np.flatnonzero(catalog.popularity == 0).astype(np.int32))
    monkeypatch.setattr(Catalog, "new_items", unclicked)


@pytest.mark.usefixtures("unclicked_are_new")
def test_unclicked_items_are_explored_by_age_and_category(folder: Path) -> None:
    rec = Recommender.load(folder)
    unclicked = [f"sku-{i}" for i in np.flatnonzero(rec.bundle.popularity == 0)]
    assert len(unclicked) >= 5
    out: Any = rec.recommend(["sku-11"], 12, explore=0.25, explore_below=1, at=END)
    of_kind = sorted(
        (item for item in unclicked if int(item[4:]) < 5 or int(item[4:]) % 2), key=lambda item: -int(item[4:])
    )
    assert out.draws[0].candidates[0] == of_kind[0]


@pytest.mark.usefixtures("unclicked_are_new")
def test_unclicked_items_have_the_age_of_the_moment_of_packed_sessions(folder: Path) -> None:
    moment = END - 398 * HOUR
    sessions = Sessions(np.array([11], dtype=np.int32), np.array([0, 1]), np.array([moment]))
    early, late = (
        Recommender.load(folder).recommend_batch(sessions, 12, explore=0.25, explore_below=1, explore_seed=1, at=at)
        for at in (moment, END + 480 * HOUR)
    )
    assert early == late
    assert any(answer.explored is not None and answer.explored.any() for answer in early)


def test_a_bundle_keeps_the_order(folder: Path) -> None:
    content: Any = Bundle.load(folder).model.content
    assert content.order == UnclickedOrder(("kind",), "made", (0.5, 0.5, -1.0))
    arrays = replace(content, order=None).arrays()
    assert ContentVectors.of(arrays).order is None
