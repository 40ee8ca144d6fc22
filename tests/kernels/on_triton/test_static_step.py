"""A training step over static buffers with fused encoder, loss and Adam takes the steps of the references."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mtaw_fast.training.static_step import StaticStep
from tests.training.steps import CPU, batches, new_model, still_config


def test_it_takes_the_steps_of_the_references(device: torch.device) -> None:
    plain = replace(still_config(), dropout=0.3, loss_backend="reference")
    fused = replace(plain, loss_backend="auto")
    reference = StaticStep(new_model(plain, CPU), plain, adam_backend="reference")
    ours = StaticStep(new_model(fused, device), fused, adam_backend="triton")
    for step, batch in enumerate(batches(plain)[:2]):
        for stepper in (reference, ours):
            torch.manual_seed(step)
            stepper.step(batch, step / 2)
    assert ours.end_epoch() == pytest.approx(reference.end_epoch(), rel=1e-5)
    for (name, a), b in zip(reference.model.named_parameters(), ours.model.parameters(), strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-4, atol=1e-5, msg=name)
