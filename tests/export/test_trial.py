"""A trial of one kind of index."""

from __future__ import annotations

import numpy as np
import pytest

from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.ranking.retrieval import NumpyIndex
from mtaw_fast.ranking.retrieval.ann_plan import SearchPlan, read_entry
from tests.support.export.indexes import D, N

faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")

from mtaw_fast.export.recall_search import HeldOut  # noqa: E402
from mtaw_fast.export.trial import Fitted, Trial  # noqa: E402
from mtaw_fast.ranking.retrieval.ann_index import AnnIndex  # noqa: E402


@pytest.mark.parametrize("kind", ["ivfpq", "hnsw"])
@pytest.mark.parametrize("hard_is", ["items", "sessions"])
def test_each_kind_of_query_gets_a_plan_of_its_own(kind: str, hard_is: str) -> None:
    """Queries in the middle of a cluster need one list; those between clusters need many."""
    rng = np.random.default_rng(0)
    middles = normalized(rng.standard_normal((60, D)).astype(np.float32))
    catalog = normalized(middles[rng.integers(0, 60, N)] + np.float32(0.1) * rng.standard_normal((N, D), np.float32))
    exact = NumpyIndex(catalog)
    easy = normalized(middles[rng.integers(0, 60, 600)] + np.float32(0.02) * rng.standard_normal((600, D), np.float32))
    hard = normalized(rng.standard_normal((600, D), np.float32))
    sessions, items = (easy, hard) if hard_is == "items" else (hard, easy)
    tune, check = (
        (HeldOut.of(sessions[half::2], exact, (20, 100)), HeldOut.of(items[half::2], exact, (20, 100)))
        for half in (0, 1)
    )
    fitted = Trial(catalog, exact, tune, check, "a test", 0.99, 0, lambda _: None).fit(kind)
    assert isinstance(fitted, Fitted)
    plans, recall = read_entry("here", fitted.entry)

    def recall_of(plan: SearchPlan, queries: HeldOut) -> float:
        scores = AnnIndex(catalog, fitted.index, plan, exact).search(queries.vectors, 20)[1]
        return float(queries.recalls(scores).mean())

    assert recall.sessions == round(recall_of(plans.sessions, check[0]), 5) >= 0.99
    assert recall.items == round(recall_of(plans.items, check[1]), 5) >= 0.99
    cheap, hard_queries = (plans.sessions, check[1]) if hard_is == "items" else (plans.items, check[0])
    assert recall_of(cheap, hard_queries) < 0.99
