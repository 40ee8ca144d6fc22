"""A bundle in its small form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import COMPACT_VERSION
from mtaw_fast.errors import BundleError
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts

N_ITEMS = 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("compact") / "whole"
    save_parts(folder, **bundle_parts(N_ITEMS, recent_weight=2.0), **memory_parts(N_ITEMS))
    return Bundle.load(folder)


@pytest.fixture
def small(whole: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.save(tmp_path / "small", whole.model, metrics={}, dataset=whole.dataset, compact=True)


def test_everything_left_out_is_derived(whole: Bundle, small: Bundle) -> None:
    assert small.manifest["format_version"] == COMPACT_VERSION
    assert set(small.manifest["files"]) == {"weights", "items", "popularity", "memory", "ranker"}
    half = whole.weights["item_embedding"].astype(np.float16).astype(np.float32)
    assert np.array_equal(small.weights["item_embedding"], half)
    assert np.array_equal(small.item_vectors, normalized(half))
    assert small.memory is not None
    assert whole.memory is not None
    for name, array in whole.memory.arrays().items():
        assert np.array_equal(getattr(small.memory, name), array), name
    assert small.memory.settings == whole.memory.settings


def test_it_ranks_as_the_same_model_written_whole(small: Bundle, tmp_path: Path) -> None:
    model = replace(small.model, scan=quantize(small.item_vectors))
    full = Bundle.save(tmp_path / "again", model, metrics={}, dataset=small.dataset)
    assert full.manifest["format_version"] < COMPACT_VERSION
    first, second = Recommender.load(small.folder), Recommender.load(full.folder)
    for session in (["sku-4"], ["sku-9", "sku-4", "sku-9"], []):
        ours, theirs = first.recommend(session, 20), second.recommend(session, 20)
        assert (ours.items, list(ours.scores)) == (theirs.items, list(theirs.scores))


def test_lengths_are_summed_in_order() -> None:
    rows = np.random.default_rng(0).normal(size=(9, 37)).astype(np.float32)
    rows[3] = 0
    for row, scaled in zip(rows, normalized(rows), strict=True):
        length = 0.0
        for value in row.astype(float):
            length += value * value
        assert np.array_equal(scaled, (row.astype(float) / (np.sqrt(length) or 1)).astype(np.float32))


def test_a_value_beyond_half_floats_is_refused(whole: Bundle, tmp_path: Path) -> None:
    embedding = whole.weights["item_embedding"].copy()
    embedding[5, 2] = 70_000
    model = whole.model.with_weights({**whole.weights, "item_embedding": embedding})
    with pytest.raises(BundleError, match="beyond 65504, the largest half float"):
        Bundle.save(tmp_path / "large", model, metrics={}, dataset={}, compact=True)
