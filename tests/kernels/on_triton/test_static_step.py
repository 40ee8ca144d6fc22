"""A training step over static buffers with the fused Adam kernels takes the eager stepper's steps."""

from __future__ import annotations

import torch

from mtaw_fast.training.static_step import StaticStep
from mtaw_fast.training.step import Stepper
from tests.training.steps import batches, new_model, still_config


def test_it_takes_the_steps_of_the_eager_stepper(device: torch.device) -> None:
    config = still_config()
    eager = Stepper(new_model(config), config)
    static = StaticStep(new_model(config, device), config, adam_backend="triton")
    for step, batch in enumerate(batches(config)[:3]):
        eager.step(batch, step / 3)
        static.step(batch, step / 3)
    for (name, a), b in zip(eager.model.named_parameters(), static.model.parameters(), strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-4, atol=1e-5, msg=name)
