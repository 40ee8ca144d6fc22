"""Whatever the learning rate, a training's two numbers of the recent clicks fit into a bundle."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mtaw_fast.config import Config
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.model.parameters import FARTHEST, RATE, recent_of
from mtaw_fast.training.steps.full_step import AnyStepper, Stepper
from mtaw_fast.training.steps.sampled_step import SampledStepper
from mtaw_fast.training.steps.static_step import StaticStep
from tests.support.training.group_threads import in_threads, shard_stepper
from tests.support.training.ring import ring_sessions
from tests.support.training.steps import batches, new_model, still_config


def long_step(stepper: AnyStepper, config: Config) -> MTAW:
    stepper.step(stepper.stage(batches(config)[0]), 1.0)
    return stepper.model


@pytest.mark.parametrize(
    "make",
    [
        Stepper,
        lambda model, config: StaticStep(model, config, "reference"),
        lambda model, config: SampledStepper(model, config, ring_sessions(50, 1)),
    ],
    ids=["full", "static", "sampled"],
)
def test_a_long_step_ends_at_the_edge_of_the_range(make: Callable[[MTAW, Config], AnyStepper]) -> None:
    config = still_config(recent_weight=2.0, lr=5.0)
    model = long_step(make(new_model(config), config), config)
    assert_at_the_edge(model.recent)


def test_so_it_does_in_a_group() -> None:
    config = still_config(recent_weight=2.0, lr=5.0)
    models = in_threads(2, lambda group: long_step(shard_stepper(config, new_model(config), group), config))
    for model in models:
        assert_at_the_edge(model.recent)


def assert_at_the_edge(recent: torch.Tensor) -> None:
    values = recent.detach()
    assert values.abs().max().item() == pytest.approx(FARTHEST / RATE)
    recent_of({"recent": values.numpy()})  # raises ValueError out of range
