"""Small bundles with random weights, for tests that need a model but no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle_format import parameter_shapes
from mtaw_fast.config import Config
from mtaw_fast.itemids import ItemIds


def random_weights(config: Config, n_items: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Every array of the model, float32, large enough that attention and ReLUs have an effect."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(config, n_items)
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    weights["norm_weight"] += 1
    return weights


def bundle_parts(n_items: int = 60, d: int = 12, text: bool = True, seed: int = 0, **settings: Any) -> dict[str, Any]:
    """The keyword arguments of Bundle.save for a random bundle."""
    config = Config(d=d, **settings)
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


def save_random(folder: Path, **settings: Any) -> Bundle:
    """A saved random bundle; settings as in `bundle_parts`."""
    return Bundle.save(folder, **bundle_parts(**settings))
