"""Any history of added and removed items, and ids of any kind, equal a bundle saved with the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtaw_fast.errors import DataError
from mtaw_fast.ranking.catalog import mean_norm
from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import bundle_parts, save_parts
from tests.support.ranking.answers import same
from tests.support.ranking.changed_catalogs import D, N, extended

pytestmark = pytest.mark.slow


def test_the_mean_norm_leaves_zero_rows_out() -> None:
    rows = np.array([[3, 4], [0, 0], [0, 1]], dtype=np.float32)
    assert mean_norm(rows) == 3
    assert mean_norm(rows[1:2]) == 1


def test_neighbors_that_cancel_out(tmp_path: Path) -> None:
    parts = bundle_parts(n_items=N, embedding_dim=D)
    parts["weights"]["item_embedding"][1] = -parts["weights"]["item_embedding"][0]
    save_parts(tmp_path / "bundle", **parts)
    rec = Recommender.load(tmp_path / "bundle")
    with pytest.raises(DataError, match="the neighbors of item 'x' cancel out"):
        rec.add_items(["x"], neighbors=[["sku-0", "sku-1"]])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_history_equals_one_bundle(tmp_path: Path, data: st.DataObject) -> None:
    n_items, d = 12, 4
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    bundle = save_parts(
        tmp_path / "bundle", **bundle_parts(n_items=n_items, embedding_dim=d, text=False), overwrite=True
    )
    rec = Recommender(bundle, *(getattr(Recommender.load(tmp_path / "bundle"), part) for part in ("encoder", "index")))
    present = bundle.ids.external(np.arange(n_items))
    removed: list[Any] = []
    ids: list[Any] = []
    vectors = np.empty((0, d), dtype=np.float32)
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()) or len(present) < 2:
            count = data.draw(st.integers(1, 3))
            fresh = [10**6 + len(ids) + i for i in range(count)]
            rows = rng.integers(-2, 3, (count, d)).astype(np.float32)  # coarse: ties and equal directions
            rows[~rows.any(axis=1)] = 1
            rec.add_items(fresh, vectors=rows)
            ids, vectors, present = [*ids, *fresh], np.concatenate([vectors, rows]), [*present, *fresh]
        else:
            item = present.pop(data.draw(st.integers(0, len(present) - 1)))
            rec.remove_items([item])
            removed.append(item)
    whole = Recommender.load(extended(bundle, ids, vectors, tmp_path / "all").folder)
    remaining = whole.filter(exclude=removed)
    session = [int(item_id) for item_id in rng.choice([*present, *removed], 3)]
    assert rec.n_items == len(present)
    for k in (1, 5, 40):
        assert same(rec.recommend(session, k), whole.recommend(session, k, filter=remaining))
        assert same(rec.recommend([], k), whole.recommend([], k, filter=remaining))


@pytest.mark.parametrize("text", [True, False])
def test_numpy_scalars_are_ids_like_any_other(tmp_path: Path, text: bool) -> None:
    """All calls accept numpy ids; answers contain plain int or str."""
    save_parts(tmp_path, **bundle_parts(n_items=40, max_session_length=6, text=text))
    rec = Recommender.load(tmp_path)
    first, second = rec.ids.external(np.array([3, 4]))
    new: Any = "fresh" if text else 12345
    as_numpy: Any = np.str_ if text else np.int64
    rec.add_items([as_numpy(new)], neighbors=[[as_numpy(first), as_numpy(second)]])
    plain = rec.recommend([first, second], 41)
    assert new in plain.items
    assert {type(item) for item in plain.items} == {str if text else int}
    for session in ([as_numpy(first), as_numpy(second)], np.array([first, second])):
        assert rec.recommend(session, 41).items == plain.items
    without = rec.recommend([first], 41, exclude=[new]).items
    assert rec.recommend([as_numpy(first)], 41, exclude=np.array([new])).items == without
    assert rec.similar_items(as_numpy(new), 5).items == rec.similar_items(new, 5).items
    assert rec.session([as_numpy(first)]).click(as_numpy(new)).clicks == [first, new]
    rec.remove_items([as_numpy(new)])
    assert new not in rec.recommend([first], 41).items
