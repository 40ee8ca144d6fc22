"""Exploration: a share of the list for new items until they were shown enough, without breaking what holds for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.exploring import Impressions
from mtaw_fast.recommender import Recommender
from tests.rules.test_ruled_rankings import Shop
from tests.support.random_bundle import bundle_parts, save_parts
from tests.support.rules.random_rules import as_text, holds

N = 60
SELDOM = [f"sku-{place}" for place in range(50, 60)]
SESSION = ["sku-1", "sku-2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 50 items."""
    folder = tmp_path_factory.mktemp("explore") / "bundle"
    save_parts(folder, **bundle_parts(50))
    return folder


def with_new_items(folder: Path, **options: Any) -> Recommender:
    """The bundle with ten items that came later."""
    rec = Recommender.load(folder, **options)
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(len(SELDOM), rec.bundle.config.model.embedding_dim)).astype(np.float32)
    rec.add_items(SELDOM, vectors=vectors)
    return rec


@pytest.fixture
def rec(folder: Path) -> Recommender:
    return with_new_items(folder)


def test_a_share_of_the_list_goes_to_seldom_shown_items(rec: Recommender) -> None:
    without = [item for item in rec.ids if item not in SELDOM]
    plain = rec.recommend(SESSION, 20, allow=without + SELDOM)
    out = rec.recommend(SESSION, 20, explore=0.5, reasons=True, repeats=True)
    assert out.explored is not None
    new = [item for item, explored in zip(out.items, out.explored, strict=True) if explored]
    seldom = [item for item in out.items if item in SELDOM]
    assert len(seldom) == Impressions().positions(0.5, 20, np.array([1, 2], dtype=np.int32)) == 10
    best = [item for item in rec.recommend(SESSION, N).items if item in SELDOM and item not in plain.items]
    for draw in out.draws:
        assert draw.candidates == best[:4]  # the best of them for the session that are left
        best.remove(out.items[draw.position])
    kept = [item for item in out.items if item not in new]
    assert kept == [item for item in plain.items if item in kept]  # the others keep their order
    assert [reason.rule == "explored" for reason in out.reasons or ()] == out.explored.tolist()
    assert (np.diff(out.scores) <= 0).all()
    assert len(set(out.items)) == 20
    everything = rec.recommend(SESSION, 2, explore=1.0, exclude=[item for item in plain.items if item in SELDOM])
    assert everything.explored is not None
    assert everything.explored.all()
    assert not everything.scores.any()  # no neighbor to take one from


def test_items_are_drawn_with_the_recorded_chances(rec: Recommender) -> None:
    seldom, drawn = Counter[str](), dict[str, float]()
    share = (1 + sum(item in SELDOM for item in rec.recommend(SESSION, 20).items)) / 20
    for seed in range(2000):
        out = rec.recommend(SESSION, 20, explore=share, explore_below=1 << 30, explore_seed=seed)
        (draw,) = out.draws
        assert out.explored is not None
        assert np.flatnonzero(out.explored).tolist() == [draw.position]
        drawn[out.items[draw.position]] = draw.chance
        seldom[out.items[draw.position]] += 1
    assert list(drawn.values()) == [drawn[item] for item in seldom]
    assert sorted(drawn) == sorted(draw.candidates)
    assert [drawn[item] for item in draw.candidates] == pytest.approx([12 / 25, 6 / 25, 4 / 25, 3 / 25])
    for item, chance in drawn.items():
        assert abs(seldom[item] / 2000 - chance) < 0.04
    assert out == rec.recommend(SESSION, 20, explore=share, explore_below=1 << 30, explore_seed=seed)


def test_the_share_of_lists_that_serve_explores_is_kept(rec: Recommender) -> None:
    rng, shown = np.random.default_rng(0), []
    for _ in range(400):
        session = [f"sku-{place}" for place in rng.integers(0, 50, 3)]
        items = rec.recommend(session, 10, explore=0.05, explore_below=1 << 30).items
        plain = sum(item in SELDOM for item in rec.recommend(session, 10).items)
        shown.append(sum(item in SELDOM for item in items) - plain)
    assert 0 < sum(shown) / 4000 <= 0.05


def test_what_rules_bury_is_not_explored(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "bundle", "text-ids", "native", "native", seed=5)
    rec, shelf = shop.rec, list(shop.rows)[:5]
    rec.add_items([f"late-{n}" for n in range(4)], vectors=shop.rng.normal(size=(4, shop.d)).astype(np.float32))
    rec.set_items([{"id": f"late-{n}", "chosen": n < 2} for n in range(4)])
    bury: dict[str, Any] = {"boost": {"when": "chosen", "by": -1000}}
    for seed in range(20):
        out = rec.recommend(shelf, 10, rules=bury, explore=0.5, explore_below=1 << 30, explore_seed=seed)
        assert not {"late-0", "late-1"} & set(out.items)
        assert {"late-2", "late-3"} <= set(out.items)
    both = {"boost": [bury["boost"], {"when": "chosen", "by": 1001}]}
    assert "late-0" in rec.recommend(shelf, 10, rules=both, explore=0.5, explore_below=1 << 30).items


def test_items_stop_being_explored_after_their_impressions(rec: Recommender) -> None:
    shown: Counter[str] = Counter()
    for place in range(50):
        out = rec.recommend([f"sku-{place}"], 10, explore=0.5, explore_below=7)
        assert out.explored is not None
        for item, explored in zip(out.items, out.explored, strict=True):
            assert not explored or shown[item] < 7
        shown.update(out.items)
    assert all(shown[item] >= 7 for item in SELDOM)
    after = rec.recommend(SESSION, 10, explore=0.5, explore_below=7)
    assert after.explored is not None
    assert not after.explored.any()


def test_every_way_to_rank_explores_the_same(folder: Path) -> None:
    answers = [
        with_new_items(folder).recommend(SESSION, 10, explore=0.4, explore_seed=3),
        with_new_items(folder).session(SESSION).recommend(10, explore=0.4, explore_seed=3),
        with_new_items(folder).recommend_batch([SESSION], 10, explore=0.4, explore_seed=3)[0],
        with_new_items(folder, encoder="numpy", index="numpy").recommend(SESSION, 10, explore=0.4, explore_seed=3),
    ]
    assert [answer.items for answer in answers] == [answers[0].items] * 4
    assert all(np.array_equal(answer.explored, answers[0].explored) for answer in answers)  # type: ignore[arg-type]
    popular = with_new_items(folder).recommend([], 10, explore=0.4)
    assert popular.fallback
    assert popular.explored is not None
    assert popular.explored.sum() == 4


def test_hidden_removed_and_excluded_items_are_not_explored(rec: Recommender) -> None:
    rec.hide(SELDOM[:3])
    rec.remove_items(SELDOM[3:6])
    out = rec.recommend(["sku-59"], 20, explore=0.5, exclude=SELDOM[6:8], exclude_seen=True)
    assert {item for item in out.items if item in SELDOM} == {SELDOM[8]}


def test_only_new_items_are_explored_and_a_catalog_without_any_ranks_once(folder: Path) -> None:
    rec = Recommender.load(folder)
    out = rec.recommend(SESSION, 20, explore=0.5)
    assert out.explored is not None
    assert not out.explored.any()  # seldom clicked, but not new
    assert rec.new_items() == []
    rec.add_items(["new-1"], neighbors=[["sku-30"]])
    out = rec.recommend(SESSION, 5, explore=0.5)
    assert "new-1" in out.items
    assert rec.new_items() == [("new-1", 1, 0, True)]
    assert rec.new_items(below=1) == [("new-1", 1, 0, False)]


def test_the_share_is_kept_on_average() -> None:
    impressions, rng = Impressions(), np.random.default_rng(0)
    for n_clicks in (3, 0):
        counts = [impressions.positions(0.13, 10, rng.integers(0, 99, n_clicks).astype(np.int32)) for _ in range(2000)]
        assert set(counts) == {1, 2}
        assert abs(np.mean(counts) - 1.3) < 0.05


@pytest.mark.parametrize("kind", ["text-ids", "memory"])
def test_rules_hold_with_exploration(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few = property(lambda catalog: np.flatnonzero(catalog.popularity < 3).astype(np.int32))
    monkeypatch.setattr(Catalog, "new_items", few)  # the shop's table has no rows of later items
    shop = Shop(tmp_path / "bundle", kind, "native", "native", seed=5)
    placed = 0
    for _ in range(60):
        session, options, rules, k = shop.request()
        k = min(k, shop.rec.n_items)
        written = as_text(rules)
        plain = shop.rec.recommend(session, k, rules=written, **options)
        out = shop.rec.recommend(session, k, rules=written, explore=0.4, explore_below=1 << 40, **options)
        assert out.explored is not None
        placed += int(out.explored.sum())
        _check(shop, session, rules, options, plain.items, out.items, out.explored)
    assert placed > 20


def _check(
    shop: Shop,
    session: list[Any],
    rules: dict[str, Any],
    options: dict[str, Any],
    plain: list[Any],
    items: list[Any],
    explored: np.ndarray,
) -> None:
    current = shop.rows[session[-1]] if session else {}
    assert len(items) == len(plain) == len(set(items))
    pins = {str(item) for item in rules.get("pin", {})}
    for place, item in enumerate(items):
        if str(plain[place]) in pins:
            assert item == plain[place]
        if not explored[place]:
            continue
        assert item not in session
        assert item not in options.get("exclude", ())
        assert item in options.get("allow", [item])
        assert all(holds(condition, shop.rows[item], current) for condition in rules.get("filter", ()))
        for limit in rules.get("limit", ()):
            for value in _values(shop.rows[item].get(limit["per"])):
                assert sum(value in _values(shop.rows[other].get(limit["per"])) for other in items) <= limit["most"]


def _values(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


@pytest.mark.parametrize("wrong", [{"explore": 1.5}, {"explore": -0.1}, {"explore": "x"}, {"explore": float("nan")},
                                   {"explore": 0.1, "explore_below": 0}, {"explore": True}])  # fmt: skip
def test_wrong_shares_are_refused(rec: Recommender, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="explore"):
        rec.recommend(SESSION, 5, **wrong)
