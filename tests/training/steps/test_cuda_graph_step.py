"""The captured step on a GPU: it takes the steps of the static step, and of the eager one."""

from __future__ import annotations

import pytest
import torch

from mtaw_fast.training.steps.cuda_graph_step import GraphStep
from mtaw_fast.training.steps.static_step import StaticStep
from tests.support.training.steps import batches, new_model, still_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")


def test_replays_take_the_steps_of_the_static_step() -> None:
    config, device = still_config(), torch.device("cuda")
    graph, static = GraphStep(new_model(config, device), config), StaticStep(new_model(config, device), config)
    for epoch in range(2):
        for step, batch in enumerate(batches(config)):
            for stepper in (graph, static):
                stepper.step(batch, epoch + step / 10)
        assert graph.end_epoch() == pytest.approx(static.end_epoch(), rel=1e-5)
    for (name, a), b in zip(graph.model.named_parameters(), static.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)


def test_dropout_differs_from_replay_to_replay_and_follows_the_seed() -> None:
    config, device = still_config().replace(dropout=0.5, lr=1e-30), torch.device("cuda")
    stepper, batch = GraphStep(new_model(config, device), config), batches(config)[0]

    def three_losses() -> list[float]:
        torch.manual_seed(5)
        losses = []
        for _ in range(3):
            stepper.step(batch, 1.0)
            losses.append(stepper.end_epoch())
        return losses

    first = three_losses()
    assert len(set(first)) == 3
    assert three_losses() == first
