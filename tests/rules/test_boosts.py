"""Boosts where `ranked_candidates` leaves candidates out: they are in the ranker's units for every candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.items import ItemFrame, ItemTable
from mtaw_fast.kernels.native.memory_query import Dense, Moment
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.recommender import Recommender
from tests.support.ranking.timed_model import END, HOUR, N, timed_model
from tests.support.rules.random_rules import serve_table

RANKED = 5
BOOSTS = (-30.0, -2.0, -0.1, -1e-6, 0.0, 1e-6, 0.05, 0.5, 3.0, 30.0)
SESSIONS = (["sku-12", "sku-31"], ["sku-7"], ["sku-3", "sku-40", "sku-11", "sku-25"], ["sku-44"])
Boosts = Sequence[tuple[Sequence[str], float]]


def served(folder: Path, ranked_candidates: int, index: str) -> Recommender:
    """Return a recommender with few candidates, whose item table has each item's id in the column `sku`."""
    if not folder.exists():
        model = timed_model(ranked_candidates=ranked_candidates)
        limits = {"dense_candidates": 6, "cooccurrence_candidates": 6, "trend_candidates": 2}
        Bundle.save(folder, replace(model, config=model.config.replace(**limits)), metrics={}, dataset={})
    rec = Recommender.load(folder, encoder="native", index=index)
    frame = ItemFrame.of([{"id": item, "sku": item} for item in rec.ids], kinds={"sku": "category"})
    serve_table(rec, ItemTable(N).replaced(frame, np.arange(N), N, ()))
    return rec


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recommender, Recommender]:
    folder = tmp_path_factory.mktemp("boosts") / "cut"
    return served(folder, RANKED, "native"), served(folder, RANKED, "numpy")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """Return the same model, whose ranker scores all candidates."""
    return served(tmp_path_factory.mktemp("boosts") / "whole", 0, "native")


def ruled(boosts: Boosts) -> dict[str, Any] | None:
    rules = [{"when": f"sku in [{', '.join(map(repr, items))}]", "by": by} for items, by in boosts]
    return {"boost": rules} if rules else None


def ask(rec: Recommender, session: list[str], boosts: Boosts = (), k: int = N) -> Recommendations:
    return rec.recommend(session, k, at=END + HOUR, rules=ruled(boosts))


def scores_of(out: Recommendations) -> dict[str, float]:
    return dict(zip(out.items, out.scores.tolist(), strict=True))


def raised(score: float, by: float) -> float:
    """Return the boosted score as the answer has it."""
    return float(np.float32(np.float64(np.float32(score)) + by))


def candidates(rec: Recommender, session: list[str]) -> set[str]:
    """Return what the ranker scores if nothing is left out. rec: with an index of numpy."""
    ranker, catalog = rec._pipeline.ranker, rec._pipeline.catalog
    assert ranker.memory is not None
    assert catalog.trends is not None
    sessions = Sessions.from_lists([catalog.ids.lookup(session).tolist()])
    queries = rec.encoder.encode(sessions)
    dense_ids, logits = rec.index.search(queries, 6, None, scale=catalog.scale)
    dense = Dense(queries, dense_ids, logits, catalog.model.item_vectors, catalog.scale)
    begins, ends = sessions.offsets[:-1], sessions.offsets[1:]
    moment = Moment(catalog.trends, np.array([END + HOUR]))
    ids, _ = ranker.memory.features(sessions.items, begins, ends, dense, moment=moment)
    return set(catalog.ids.external(ids[ids >= 0]))


@pytest.mark.parametrize("session", SESSIONS)
def test_a_boost_is_in_the_units_of_the_ranker(
    cut: tuple[Recommender, Recommender], whole: Recommender, session: list[str]
) -> None:
    """For each candidate, also one that is left out without the boost; other items keep their order."""
    full, plain, scored = scores_of(ask(whole, session)), ask(cut[0], session), candidates(cut[1], session)
    left_out = plain.items[len(set(session)) + RANKED : len(scored)]
    assert set(left_out) < scored
    assert len(left_out) > 10
    assert len(scored) < N
    for place, item in enumerate(plain.items):
        expected = raised(full[item] if item in scored else plain.scores[place], 0.7)
        outs = [ask(rec, session, [([item], 0.7)]) for rec in cut]
        if place % 5 == 0:
            options: dict[str, Any] = {"k": N, "at": END + HOUR, "rules": ruled([([item], 0.7)])}
            outs += [rec.recommend_batch([session, ["sku-20"]], **options)[0] for rec in cut]
            outs += [rec.session(session).recommend(**options) for rec in cut]
        for out in outs:
            assert scores_of(out)[item] == expected
            assert [other for other in out.items if other != item] == [other for other in plain.items if other != item]
            assert out.items == outs[0].items


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_larger_boost_never_lowers_a_place(cut: tuple[Recommender, Recommender], data: st.DataObject) -> None:
    """Of one item, from burying to boosting it, among the items that are not buried by other boosts."""
    rec, session = data.draw(st.sampled_from(cut)), data.draw(st.sampled_from(SESSIONS))
    items = st.sampled_from(list(rec.ids))
    item = data.draw(items)
    boosted = st.tuples(st.lists(items, min_size=1, max_size=9), st.sampled_from(BOOSTS))
    others = data.draw(st.lists(boosted, max_size=3))
    buried = {sku for sku in rec.ids if sum(by for skus, by in others if sku in skus) < 0} - {item}
    outs = [ask(rec, session, [*others, ([item], by)]) for by in BOOSTS]
    places = [sum(other not in buried for other in out.items[: out.items.index(item)]) for out in outs]
    assert places == sorted(places, reverse=True)
    assert outs[BOOSTS.index(0.0)].items == ask(rec, session, others).items
