"""Load a bundle with its encoder and its index while an export replaces its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.additions import Addition, replace_parts
from mtaw_fast.errors import BundleError
from mtaw_fast.ranking import served_pipeline
from mtaw_fast.ranking.retrieval import AnnFile, Index, make_index
from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import save_random


@pytest.mark.parametrize("exports", [1, 5])
def test_a_bundle_whose_index_is_replaced_meanwhile_is_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exports: int
) -> None:
    save_random(tmp_path)
    waiting = [bytes([number]) for number in range(exports)]

    def export(data: bytes) -> None:
        addition = Addition("faiss", lambda path: path.write_bytes(data))
        replace_parts(tmp_path, Bundle.load(tmp_path).manifest, {"index": addition}, {"index": {}})

    def reading(name: str, catalog: Any, quantized: Any, ann: AnnFile) -> Index:
        if waiting:
            export(waiting.pop())
        if not ann.path.exists():
            raise BundleError(f"{ann.path} is missing")
        return make_index("native", catalog, quantized)

    export(b"first")
    monkeypatch.setattr(served_pipeline, "make_index", reading)
    if exports < 5:
        assert len(Recommender.load(tmp_path, index="ann").recommend([], 3)) == 3
        return
    with pytest.raises(BundleError, match="is missing"):
        Recommender.load(tmp_path, index="ann")
    assert not waiting


def test_an_index_that_does_not_load_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_random(tmp_path)
    calls = []

    def refusing(*arguments: Any) -> Index:
        calls.append(arguments)
        raise BundleError("damaged")

    monkeypatch.setattr(served_pipeline, "make_index", refusing)
    with pytest.raises(BundleError, match="damaged"):
        Recommender.load(tmp_path)
    assert len(calls) == 1
