"""Batches padded to a budget: shapes, budgets, and that padding changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.kernels.prefix_interest import Tiles
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.static_batch import Budget, StaticBatch
from tests.support.training.steps import CPU, batches, new_model, still_config


def test_padding_by_hand() -> None:
    static = StaticBatch(Budget(clicks=8, rows=4), CPU)
    static.load(Batch.of(Sessions.from_lists([[9, 9, 9, 9, 9]]), 1, CPU), 1)  # to be overwritten
    static.load(Batch.of(Sessions.from_lists([[1, 2, 3], [4, 5], [6, 7, 8, 9]]), 2, CPU), 77)
    inputs = static.inputs
    assert inputs.clicks.tolist() == [1, 2, 4, 6, 7, 8, 0, 0]
    assert inputs.offsets.tolist() == [0, 2, 3, 6, 7, 8, 8, 8, 8]
    assert inputs.rows.tolist() == [1, 4, 5, 0]
    assert inputs.targets.tolist() == [3, 8, 9, 0]
    assert inputs.weights.tolist() == [1, 1, 1, 0]
    assert inputs.seed.tolist() == [77]
    plan = Tiles.of(inputs.offsets.numpy(), "cpu")
    used = len(plan.slot_click)
    assert torch.equal(inputs.tiles.slot_click[:used], plan.slot_click)
    assert torch.equal(inputs.tiles.tile_range[: plan.n_tiles], plan.tile_range)
    assert (inputs.tiles.slot_click[used:] == -1).all()


def test_a_batch_over_the_budget_is_refused() -> None:
    batch = Batch.of(Sessions.from_lists([[1, 2, 3, 4]]), 1, CPU)
    for budget in (Budget(clicks=2, rows=8), Budget(clicks=8, rows=2)):
        with pytest.raises(UsageError, match="a batch of 3 clicks and 3 samples does not fit"):
            StaticBatch(budget, CPU).load(batch, 0)


@pytest.mark.parametrize(
    ("clicks", "min_prefix", "budget"),
    [(1, 1, (16, 16)), (1, 2, (16, 16)), (16, 1, (16, 16)), (17, 2, (32, 16)), (130, 1, (144, 144))],
)
def test_budgets_are_quarters_of_a_full_batch(clicks: int, min_prefix: int, budget: tuple[int, int]) -> None:
    batch = Batch.of(Sessions.from_lists([np.arange(clicks + 1)]), min_prefix, CPU)
    assert Budget.for_batch(batch, 61) == budget


@given(
    lengths=st.lists(st.integers(2, 140), min_size=1, max_size=40),
    inert=st.integers(0, 70),
)
@settings(max_examples=60, deadline=None)
def test_the_tiles_of_a_budget_are_always_enough(lengths: list[int], inert: int) -> None:
    batch = Batch.of(Sessions.from_lists([np.zeros(length) for length in lengths]), 1, CPU)
    budget = Budget(len(batch.clicks) + inert, len(batch.rows))
    static = StaticBatch(budget, CPU)
    static.load(batch, 0)
    clicks = static.inputs.tiles.slot_click
    assert sorted(clicks[clicks >= 0].tolist()) == list(range(budget.clicks))


def test_padding_changes_neither_the_loss_nor_any_gradient() -> None:
    config = still_config().replace(dropout=0.3, recent_weight=2.0)
    model = new_model(config).double()
    batch = batches(config)[0]
    static = StaticBatch(Budget(len(batch.clicks) + 9, len(batch.rows) + 5), CPU)
    static.load(batch, 5)
    seed = torch.tensor([5])

    def of(clicks: Any, offsets: Any, rows: Any, targets: Any, weights: Any) -> tuple[torch.Tensor, ...]:
        queries = model(clicks, offsets, seed=seed)[rows]
        loss = aw_loss(queries, model.item_embedding, targets, scale=16, gamma=2, weights=weights, backend="reference")
        return loss, *torch.autograd.grad(loss, list(model.parameters()))

    inputs = static.inputs
    padded = of(inputs.clicks, inputs.offsets, inputs.rows, inputs.targets, inputs.weights)
    for a, b in zip(padded, of(batch.clicks, batch.offsets, batch.rows, batch.targets, None), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
