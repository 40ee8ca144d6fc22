"""The search plan for similar items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import bundle_parts, save_parts
from tests.support.ranking.answers import same


def test_similar_items_searches_by_the_plan_for_items(tmp_path: Path) -> None:
    """The plan for sessions reads one list, the plan for items all lists: the results show which plan was used."""
    pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")
    from mtaw_fast.export.faiss_build import build
    from mtaw_fast.ranking.retrieval.ann_index import AnnIndex
    from mtaw_fast.ranking.retrieval.ann_plan import SearchPlan

    bundle = save_parts(tmp_path / "bundle", **bundle_parts(n_items=2000, embedding_dim=16, text=False))
    exact = Recommender.load(tmp_path / "bundle", encoder="numpy", index="numpy")
    approximate = build("ivfpq", bundle.item_vectors, 0, lambda _: None).index
    plans = SearchPlan("ivfpq", 1, 1), SearchPlan("ivfpq", approximate.nlist, 100)
    index = AnnIndex(bundle.item_vectors, approximate, plans[0], exact.index, None, plans[1])
    rec, plain = (Recommender(bundle, exact.encoder, variant) for variant in (index, index.with_plan(plans[0])))
    items = bundle.ids.external(np.arange(0, 2000, 100))
    for updated in (False, True):
        if updated:
            for recommender in (rec, plain, exact):
                recommender.remove_items(items[1:3])
                recommender.add_items([-1], neighbors=[items[5:7]])
        known = [items[0], *items[3:], *([-1] if updated else [])]
        assert all(same(rec.similar_items(item), exact.similar_items(item)) for item in known)
        flt = rec.filter(exclude=known[2:4])
        assert all(same(rec.similar_items(item, filter=flt), exact.similar_items(item, filter=flt)) for item in known)
        assert all(same(rec.recommend([item]), plain.recommend([item])) for item in known)
        assert not all(same(rec.recommend([item]), exact.recommend([item])) for item in known)
