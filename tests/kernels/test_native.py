"""The native rerank against its numpy reference and against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.kernels.native import reference, rerank_topk


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def check(queries: np.ndarray, catalog: np.ndarray, candidates: np.ndarray, k: int, scale: float) -> None:
    ids, scores = rerank_topk(queries, catalog, candidates, k, scale)
    expected_ids, expected_scores = reference.rerank_topk(queries, catalog, candidates, k, scale)
    assert same_bits(ids, expected_ids)
    assert same_bits(scores, expected_scores)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_queries=st.integers(0, 4),
    n_items=st.integers(1, 40),
    d=st.integers(1, 37),
    n_candidates=st.integers(0, 40),
    k=st.integers(1, 50),
    coarse=st.booleans(),
)
def test_equals_the_reference(
    seed: int, n_queries: int, n_items: int, d: int, n_candidates: int, k: int, coarse: bool
) -> None:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        values = rng.integers(-1, 2, shape) if coarse else rng.standard_normal(shape)  # coarse: many ties
        return values.astype(np.float32)

    width = min(n_candidates, n_items)
    candidates = np.array(
        [rng.choice(n_items, width, replace=False) for _ in range(n_queries)], dtype=np.int32
    ).reshape(n_queries, width)
    candidates[rng.random(candidates.shape) < 0.2] = -1
    check(draw(n_queries, d), draw(n_items, d), candidates, k, 16.0)


def test_real_width_and_many_candidates() -> None:
    rng = np.random.default_rng(0)
    queries, catalog = (rng.standard_normal((n, 100)).astype(np.float32) for n in (3, 4001))
    candidates = np.stack([rng.permutation(4001) for _ in range(3)]).astype(np.int32)
    check(queries, catalog, candidates, 20, 16.0)
    check(queries, catalog, candidates, 5000, 1.0)


def test_scores_are_the_rounded_dot_products() -> None:
    """Against rational arithmetic: far within float64's error the float32 rounding is unique."""
    rng = np.random.default_rng(1)
    queries, catalog = (rng.standard_normal((n, 100)).astype(np.float32) for n in (1, 9))
    ids, scores = rerank_topk(queries, catalog, np.arange(9, dtype=np.int32)[None], 9, 16.0)
    for place, score in zip(ids[0], scores[0], strict=True):
        pairs = zip(queries[0].tolist(), catalog[place].tolist(), strict=True)
        exact = 16 * sum((Fraction(q) * Fraction(e) for q, e in pairs), Fraction(0))
        assert abs(Fraction(float(score)) - exact) <= abs(exact) * Fraction(2) ** -24 + Fraction(2) ** -40


def test_ties_go_to_the_lower_id_whatever_the_order_of_the_candidates() -> None:
    catalog = np.ones((50, 5), dtype=np.float32)
    candidates = np.array([[41, 7, -1, 30, 8, 2]], dtype=np.int32)
    ids, scores = rerank_topk(catalog[:1], catalog, candidates, 4, 2.0)
    assert ids.tolist() == [[2, 7, 8, 30]]
    assert scores.tolist() == [[10.0] * 4]


def test_a_candidate_that_comes_twice_leaves_no_garbage() -> None:
    catalog = np.arange(100, dtype=np.float32).reshape(50, 2)
    ids, scores = rerank_topk(catalog[1:2], catalog, np.array([[5, 5, 7, -1]], dtype=np.int32), 3, 1.0)
    assert set(ids[0].tolist()) <= {5, 7, -1}
    assert np.isneginf(scores[ids == -1]).all()


def test_padding() -> None:
    catalog = np.ones((3, 2), dtype=np.float32)
    ids, scores = rerank_topk(catalog[:2], catalog, np.array([[-1, 2], [-1, -1]], dtype=np.int32), 3, 1.0)
    assert ids.tolist() == [[2, -1, -1], [-1, -1, -1]]
    assert scores.tolist() == [[2.0, -np.inf, -np.inf], [-np.inf] * 3]


def test_values_that_are_not_finite() -> None:
    catalog = np.array([[np.nan], [-np.inf], [1], [np.nan], [np.inf], [1]], dtype=np.float32)
    query, everything = np.ones((1, 1), dtype=np.float32), np.arange(6, dtype=np.int32)[None, ::-1].copy()
    ids, scores = rerank_topk(query, catalog, everything, 6, 1.0)
    assert ids.tolist() == [[4, 2, 5, 1, 0, 3]]
    assert np.isnan(scores[0, 4:]).all()
    check(query, catalog, everything, 6, 1.0)


def test_extreme_magnitudes() -> None:
    tiny, huge = np.float32(1e-45), np.float32(3e38)
    catalog = np.array([[tiny, tiny], [huge, -huge], [huge, huge], [-tiny, tiny], [0, -0.0]], dtype=np.float32)
    for query in catalog:
        check(query[None], catalog, np.arange(5, dtype=np.int32)[None], 5, 1.0)


@pytest.mark.parametrize("bad", [-2, 5, 2**31 - 1, -(2**31)])
def test_a_candidate_outside_the_catalog_is_refused(bad: int) -> None:
    catalog = np.ones((5, 2), dtype=np.float32)
    with pytest.raises(IndexError, match=rf"candidate {bad} of query 1"):
        rerank_topk(catalog[:2], catalog, np.array([[0, 1], [2, bad]], dtype=np.int32), 1, 1.0)


def test_wrong_arguments_are_refused() -> None:
    catalog, candidates = np.ones((6, 4), dtype=np.float32), np.zeros((2, 3), dtype=np.int32)
    queries = catalog[:2]
    with pytest.raises(ValueError, match="queries must be a C-contiguous float32 matrix, not float64"):
        rerank_topk(queries.astype(np.float64), catalog, candidates, 1, 1.0)
    with pytest.raises(ValueError, match="catalog must be a C-contiguous float32 matrix"):
        rerank_topk(queries, np.asfortranarray(catalog), candidates, 1, 1.0)
    with pytest.raises(ValueError, match="candidates must be a C-contiguous int32 matrix, not int64"):
        rerank_topk(queries, catalog, candidates.astype(np.int64), 1, 1.0)
    with pytest.raises(ValueError, match="not one of 1 dimensions"):
        rerank_topk(queries[0], catalog, candidates, 1, 1.0)
    with pytest.raises(ValueError, match="queries have 4 dimensions, the catalog 3"):
        rerank_topk(queries, np.ones((6, 3), dtype=np.float32), candidates, 1, 1.0)
    with pytest.raises(ValueError, match="there are 2 queries but candidates for 1"):
        rerank_topk(queries, catalog, candidates[:1], 1, 1.0)
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        rerank_topk(queries, catalog, candidates, 0, 1.0)
