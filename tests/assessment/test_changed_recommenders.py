"""Recommenders that have changed since their bundle was made: added items count, learned clicks are warned of."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast import Recommender, compare, evaluate
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataWarning
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.ranking.changed_catalogs import D, M, N, extended, new_ids, new_vectors


@pytest.mark.filterwarnings("ignore::mtaw_fast.errors.DataWarning")
def test_added_items_count_as_clicks_and_targets(tmp_path: Path) -> None:
    """As those of a bundle that has them from the start."""
    bundle = save_parts(tmp_path / "bundle", **bundle_parts(n_items=N, embedding_dim=D))
    ids, vectors = new_ids(bundle), new_vectors(bundle, seed=0)
    added = Recommender.load(bundle.folder)
    added.add_items(ids, vectors=vectors)
    whole = Recommender.load(extended(bundle, ids, vectors, tmp_path / "whole").folder)
    # Items that neither knows come first, as many as were added: their numbers must not be taken for new items.
    unknown = [f"unknown-{place}" for place in range(M)]
    catalog = ItemIds.from_list([*unknown, *bundle.ids.external(np.arange(N)), *ids])
    rng = np.random.default_rng(0)
    clicks = rng.integers(M, len(catalog), (300, 4))
    clicks[:, 3] = np.where(rng.random(300) < 0.5, rng.integers(0, M, 300), rng.integers(M + N, len(catalog), 300))
    samples = Samples.from_sessions(Sessions.from_lists(list(clicks)), 3)
    data = Dataset("new", Sessions.from_lists(list(rng.integers(0, len(catalog), (100, 5)))), samples, catalog)

    expected, found = evaluate(whole, data).report, evaluate(added, data).report
    assert expected.metrics["P@20"] > 0
    assert found.metrics == expected.metrics
    for metric in ("recall@20", "NDCG@20", "coverage@20", "novelty@20", "diversity@20"):
        assert found.more[metric] == pytest.approx(expected.more[metric], rel=1e-12), metric
    comparison = compare(whole, added, data)
    assert comparison.lists.same_list == 100
    assert comparison.metrics["P@20"].difference == 0


def test_learned_clicks_are_a_warning(tmp_path: Path) -> None:
    learned = "this recommender has learned 3 clicks that its bundle does not have"
    bundle = save_parts(tmp_path / "bundle", **bundle_parts() | memory_parts())
    sessions = Sessions.from_lists([[1, 2, 3]] * 4)
    data = Dataset("shop", sessions, Samples.from_sessions(sessions, 1), bundle.ids)
    learning = Recommender.load(bundle.folder, learn=tmp_path / "log")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        evaluate(learning, data)  # nothing is learned yet
    learning.observe("visit", bundle.ids.external(np.array([1, 2, 3])))
    learning.catch_up()
    with pytest.warns(DataWarning, match=learned):
        evaluate(learning, data)
    with pytest.warns(DataWarning, match=f"bundle [(]B[)]: {learned}"):
        compare(bundle, learning, data)
    learning.close()


def test_targets_that_are_not_available_are_a_warning(tmp_path: Path) -> None:
    """A hidden item is missed by the bundle alone; one of the same catalog in another order is not."""
    bundle = save_parts(tmp_path / "bundle", **bundle_parts())
    order = np.arange(bundle.n_items)[::-1]
    ids = ItemIds.from_list(bundle.ids.external(order))
    sessions = Sessions.from_lists([[1, 2, 3], [4, 5, 6], [2, 1, 3], [0, 3, 5]])
    data = Dataset("shop", sessions, Samples.from_sessions(sessions, 1), ids)  # 8 targets, 3 of them item 3
    rec = Recommender.load(bundle.folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        evaluate(rec, data, baselines=False)
    rec.hide(ids.external(np.array([3])))
    missed = r"3 of 8 targets \(37.5%\) are items that are not recommended now"
    with pytest.warns(DataWarning, match=missed):
        evaluate(rec, data, baselines=False)
    with pytest.warns(DataWarning, match=f"bundle [(]B[)]: {missed}"):
        compare(bundle, rec, data)
