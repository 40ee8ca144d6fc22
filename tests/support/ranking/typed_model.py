"""A model whose ranker reads the types of clicks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtaw_fast.bundle import Model
from mtaw_fast.data.click_types import ClickTypes
from mtaw_fast.memory import RankerNet
from mtaw_fast.memory.type_features import type_feature_names
from tests.support.ranking.context_model import context_model

TYPES = ("view", "cart", "purchase")


def with_types(net: RankerNet, names: tuple[str, ...]) -> RankerNet:
    """Return a ranker that also reads types, with random weights for them."""
    type_names, rng = type_feature_names(ClickTypes(names)), np.random.default_rng(8)

    def wider(array: np.ndarray, spread: float = 0.5) -> np.ndarray:
        added = spread * rng.normal(size=(len(type_names), *array.shape[1:]))
        return np.concatenate([array, added.astype(np.float32)])

    return replace(
        net, features=(*net.features, *type_names), mean=wider(net.mean),
        scale=np.concatenate([net.scale, np.ones(len(type_names), np.float32)]), linear=wider(net.linear, 2.0),
        w1=wider(net.w1),
    )  # fmt: skip


def typed_model() -> Model:
    """`context_model`, whose ranker reads the types of clicks, too."""
    plain = context_model()
    assert plain.ranker_net is not None
    return replace(plain, ranker_net=with_types(plain.ranker_net, TYPES))
