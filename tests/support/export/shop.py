"""A shop whose bundle has everything that must not be published by accident."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle, Model
from mtaw_fast.items import ContentVectors, ItemFrame, ItemTable
from mtaw_fast.items.content_features import ContentFeatures
from mtaw_fast.items.placements import Revision
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.storage.tensor_file import map_tensors
from tests.support.ranking.timed_model import END, HOUR, N
from tests.support.ranking.typed_model import typed_model

PUBLIC = ("title", "tags", "category")
REMOVED, HIDDEN, SOLD_OUT = 7, 11, 13  # items that are not recommended, each for another reason
METRICS = {"validation": {"P@20": 61.83749}, "history": [{"loss": 2.718281}] * 50}
DATASET = {"name": "secret-shop", "fingerprint": "0011-2233-4455", "summary": {"days": {"2023-11-15": 38127}}}


def shop_model() -> Model:
    """`typed_model` with an item table. Its ranker reads `category`, which is public, and the private `created`."""
    plain = typed_model()
    ids = plain.ids.external(np.arange(N))
    frame = ItemFrame.of(
        {
            "id": [*ids, "upcoming-sku"],
            "title": [*(f"shown {i}" for i in range(N)), "upcoming title"],
            "tags": [[f"tag-{i % 3}", f"only-{i}"] for i in range(N)] + [["upcoming tag"]],
            "category": [*(f"c{i % 4}" for i in range(N)), "upcoming category"],
            "created": [END - i * HOUR - 4_321 for i in range(N + 1)],
            "price": [1000.25 + 7 * i for i in range(N + 1)],
            "supplier": [f"supplier-{i % 5}" for i in range(N + 1)],
            "labels": [[f"label-{i % 6}"] for i in range(N + 1)],
            "note": [f"note {i}" for i in range(N + 1)],
            "margin": [[0.123 + i, 0.456 + 2 * i] for i in range(N + 1)],
            "in_stock": [i != SOLD_OUT for i in range(N + 1)],
        },
        kinds={"category": "category", "tags": "categories", "supplier": "category", "labels": "categories",
               "created": "time", "title": "text", "note": "text", "margin": "vector"},
    )  # fmt: skip
    rows = np.append(np.arange(N), -1)
    table = ItemTable(0).replaced(frame, rows, N, PUBLIC, "in_stock")
    table = replace(
        table, hidden=frozenset([ids[HIDDEN], "hidden-sku"]), made=END - 98_765, changed=END - 43_210,
        placements={"secret-place": (Revision(1, END, {"sets": [{"rules": {"boost": []}, "name": "secret-set"}]}),)},
    )  # fmt: skip
    features = ContentFeatures.of(table, np.arange(N))
    weights = np.random.default_rng(0).normal(size=(features.count + 1, plain.config.model.embedding_dim))
    content = ContentVectors(features, weights.astype(np.float32), 1.0, {"cosine": 0.1234})
    progress = LogProgress("log-of-the-shop", "5", removed=np.array([REMOVED], np.int32))
    assert plain.clicked_at is not None
    return replace(plain, items=table, content=content, log_progress=progress)


def shop_bundle(folder: Path) -> Bundle:
    """Save `shop_model`, with the records of a training."""
    return Bundle.save(folder, shop_model(), metrics=METRICS, dataset=DATASET, about={"trained": "2023-11-14"})


def tensors_in(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays of all files of a folder but the manifest, by file and name."""
    for path in sorted(folder.iterdir()):
        if path.name != "manifest.json":
            for name, array in map_tensors(path).items():
                yield f"{path.name.partition('-')[0]}/{name}", array


def bytes_in(folder: Path) -> bytes:
    """Return the bytes of all files of a folder, one after the other."""
    return b"\n".join(path.read_bytes() for path in sorted(folder.iterdir()))


def has_run(array: np.ndarray, run: Any) -> bool:
    """Return whether an array has these values next to each other."""
    if array.size < len(run):
        return False
    windows = np.lib.stride_tricks.sliding_window_view(array.reshape(-1), len(run))
    return bool((windows == np.asarray(run)).all(axis=1).any())
