"""A model whose ranker reads the types of clicks."""

from __future__ import annotations

from dataclasses import replace

from mtaw_fast.bundle import Model
from mtaw_fast.data.click_types import ClickTypes
from mtaw_fast.memory import RankerNet
from mtaw_fast.memory.ranker_net import type_feature_names
from tests.support.memory.queries import widened
from tests.support.ranking.context_model import context_model

TYPES = ("view", "cart", "purchase")


def with_types(net: RankerNet, names: tuple[str, ...]) -> RankerNet:
    """Return a ranker that also reads types, with random weights for them."""
    return widened(net, type_feature_names(ClickTypes(names)), 8, mean=0.5, scale=1.0, linear=2.0, w1=0.5)


def typed_model() -> Model:
    """`context_model`, whose ranker reads the types of clicks, too."""
    plain = context_model()
    assert plain.ranker_net is not None
    return replace(plain, ranker_net=with_types(plain.ranker_net, TYPES))
