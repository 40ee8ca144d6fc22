"""The sum of the losses of an epoch."""

from __future__ import annotations

import math

import torch

from mtaw_fast.training.steps.step_losses import LossAccumulator
from tests.support.training.steps import CPU


def test_the_tally_adds_up_and_can_be_suspended() -> None:
    loss_accumulator = LossAccumulator(CPU)
    loss_accumulator.add(torch.tensor(2.0), torch.tensor([3]))
    before = loss_accumulator.suspend()
    loss_accumulator.add(torch.tensor(7.0), torch.tensor([5]))
    loss_accumulator.add(torch.tensor(math.nan), torch.tensor([5]))
    loss_accumulator.resume(before)
    loss_accumulator.add(torch.tensor(1.0), torch.tensor([4]))
    assert loss_accumulator.arrived() is None
    assert loss_accumulator.wait() == (10.0, 1.0, None, 2)
    loss_accumulator.add(torch.tensor(math.inf), torch.tensor([1]))
    loss_accumulator.add(torch.tensor(1.0), torch.tensor([1]))
    loss_accumulator.request()
    assert loss_accumulator.arrived() == (10.0, math.inf, 2, 4)
    assert loss_accumulator.arrived() is None  # read once
    loss_accumulator.reset()
    assert loss_accumulator.wait() == (0.0, 0.0, None, 0)
    assert loss_accumulator.healthy
