"""The queries that a recall is measured on."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Samples
from mtaw_fast.data.synthetic import generate
from mtaw_fast.errors import UsageError
from tests.support.export.indexes import D, N, contents, export, save
from tests.support.random_bundle import bundle_parts

faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")


def test_recall_is_measured_on_validation_sessions(tmp_path: Path) -> None:
    dataset = generate(N, 6000, seed=1)
    save(tmp_path / "bundle", ids=dataset.ids)
    exported = export(tmp_path / "bundle", dataset=dataset)
    assert exported.entry is not None
    held_out = dataset.train.split_last(Bundle.load(tmp_path / "bundle").config.optimizer.validation_fraction)[1]
    count = min(400, len(Samples.from_sessions(held_out, dataset.min_prefix)))
    assert count > 200
    assert (
        exported.entry["recall"]["source"] == f"{count} prefixes of the validation sessions of data set {dataset.name}"
    )


def test_sessions_of_another_catalog_are_refused(folder: Path) -> None:
    dataset = generate(50, 6000, seed=1)  # its ids are numbers
    save(folder, ids=bundle_parts(n_items=N, embedding_dim=D)["ids"])
    before = contents(folder)
    with pytest.raises(UsageError, match="validation prefixes of items that the bundle knows, a recall needs 100"):
        export(folder, dataset=dataset)
    assert contents(folder) == before
