"""A bundle of 3,000 items, and the export of its index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.bundle import Bundle
from tests.support.random_bundle import bundle_parts, save_parts

faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")

from mtaw_fast.export.index import Exported, export_index  # noqa: E402

N, D = 3000, 16


def save(folder: Path, seed: int = 0, **changes: Any) -> Bundle:
    return save_parts(
        folder, **{**bundle_parts(n_items=N, embedding_dim=D, text=False, seed=seed), **changes}, overwrite=True
    )


def export(folder: Path, kind: str = "ivfpq", **options: Any) -> Exported:
    return export_index(folder, kind, queries=200, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
