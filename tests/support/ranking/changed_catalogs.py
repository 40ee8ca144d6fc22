"""New items for a catalog, and the bundle that has them from the start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.memory import MemoryTables
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.ranking.catalog import mean_norm
from tests.support.random_bundle import save_parts

N, D, M = 300, 16, 9


def new_ids(bundle: Bundle, count: int = M) -> list[Any]:
    return [f"new-{i}é" if bundle.ids.kind == "str" else 10**12 + i for i in range(count)]


def new_vectors(bundle: Bundle, count: int = M, seed: int = 5) -> np.ndarray:
    """Return directions that compete with the bundle's items; one equals an item's, for a tie."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, D)).astype(np.float32) * 3
    vectors[0] = bundle.weights["item_embedding"][15]
    return vectors


def extended(bundle: Bundle, ids: Sequence[Any], vectors: np.ndarray, folder: Path) -> Bundle:
    """Save the bundle again with more items, as the reference for `add_items`."""
    embedding = bundle.weights["item_embedding"]
    unit = normalized(vectors) * np.float32(mean_norm(embedding))
    memory = bundle.memory
    if memory is not None:
        memory = MemoryTables.build(memory.sessions, bundle.n_items + len(ids), memory.settings)
    return save_parts(
        folder,
        config=bundle.config,
        weights={**bundle.weights, "item_embedding": np.concatenate([embedding, unit])},
        ids=ItemIds.from_list([*bundle.ids.external(np.arange(bundle.n_items)), *ids]),
        popularity=np.concatenate([bundle.popularity, np.zeros(len(ids), dtype=np.int64)]),
        metrics={},
        dataset={},
        memory=memory,
        ranker_net=bundle.ranker_net,
        overwrite=True,
    )
