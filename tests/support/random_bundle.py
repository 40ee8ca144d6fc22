"""Small bundles with random weights, for tests that need a model but no training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle, Model
from mtaw_fast.config import Config
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import BundleError
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.model.parameters import parameter_shapes, starting_weights
from mtaw_fast.storage.files import sha256_of
from mtaw_fast.storage.tensor_file import write_tensors


def random_weights(config: Config, n_items: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return every array of the model, float32, large enough that attention and ReLUs have an effect."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(config, n_items)
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    weights["norm_weight"] += 1
    if config.model.recent_weight > 0:
        weights["recent"] = np.array(starting_weights(config), dtype=np.float32)
    return weights


def bundle_parts(
    n_items: int = 60, embedding_dim: int = 12, text: bool = True, seed: int = 0, **settings: Any
) -> dict[str, Any]:
    """Return the arguments of `save_parts` for a random bundle; settings by their names in `Config.of`."""
    config = Config.of(embedding_dim=embedding_dim, **settings)
    rng = np.random.default_rng(seed + 1)
    return {
        "config": config,
        "weights": random_weights(config, n_items, seed),
        "ids": ItemIds.from_list(
            [f"sku-{i}" for i in range(n_items)] if text else [10 * i + 7 for i in range(n_items)]
        ),
        "popularity": rng.integers(0, 9, n_items).astype(np.int64),
        "metrics": {"MRR@20": 12.5},
        "dataset": {"name": "random", "fingerprint": "abc"},
    }


def memory_parts(n_items: int = 60, seed: int = 0) -> dict[str, Any]:
    """Return the further parts of a bundle with a session memory: tables of random sessions and a random ranker."""
    rng = np.random.default_rng(seed + 2)
    sessions = Sessions.from_lists([rng.integers(0, n_items, rng.integers(2, 9)) for _ in range(3 * n_items)])
    features = feature_names()
    n = len(features)
    shapes = {"mean": (n,), "scale": (n,), "linear": (n,), "w1": (n, 64), "b1": (64,), "w2": (64, 32), "b2": (32,)}
    shapes |= {"w3": (32,), "bias": (1,)}
    arrays = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    return {"memory": MemoryTables.build(sessions, n_items), "ranker_net": RankerNet(features=features, **arrays)}


def save_parts(
    folder: str | Path, *, metrics: dict[str, Any], dataset: dict[str, Any], overwrite: bool = False, **parts: Any
) -> Bundle:
    """Save a model of these parts and return its bundle; the other arguments as in `Bundle.save`."""
    return Bundle.save(folder, Model.of(**parts), metrics=metrics, dataset=dataset, overwrite=overwrite)


def save_random(folder: Path, **settings: Any) -> Bundle:
    """Save a random bundle and return it; settings as in `bundle_parts`."""
    return save_parts(folder, **bundle_parts(**settings))


def refused(folder: Path, verify: bool = True) -> str:
    """Return the one-line message with which a bundle is refused."""
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder, verify=verify)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a bundle's manifest in place."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def replace_part(folder: Path, part: str, arrays: dict[str, np.ndarray]) -> None:
    """Replace the arrays of a bundle's part, and its hash with them."""
    path = folder / f"{part}-changed.safetensors"
    write_tensors(path, arrays)
    edit_manifest(folder, lambda m: m["files"].update({part: {"file": path.name, "sha256": sha256_of(path)}}))


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file in the folder by its name, hidden files included."""
    return {path.name: sha256_of(path) for path in folder.iterdir()}
