"""A bundle in its small form."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import COMPACT_VERSION, MANIFEST
from mtaw_fast.errors import BundleError
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.recommender import Recommender
from mtaw_fast.storage.files import sha256_of
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors
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


@pytest.mark.parametrize(
    ("name", "change"),
    [("session_items", lambda a: np.where(a == a[0], N_ITEMS, a)), ("session_offsets", lambda a: a[:-1].copy())],
)
def test_damaged_sessions_are_refused(small: Bundle, tmp_path: Path, name: str, change: object) -> None:
    folder = shutil.copytree(small.folder, tmp_path / "damaged")
    manifest = json.loads((folder / MANIFEST).read_text())
    path = folder / manifest["files"]["memory"]["file"]
    arrays = dict(map_tensors(path))
    arrays[name] = change(arrays[name]).astype(arrays[name].dtype)  # type: ignore[operator]
    write_tensors(path, arrays)
    manifest["files"]["memory"] |= {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"memory tables|sessions: offsets"):
        Bundle.load(folder)
