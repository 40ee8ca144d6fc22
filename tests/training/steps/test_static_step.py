"""The step over static buffers: padding changes nothing; it is the eager step; on a GPU, so are its graphs."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import TrainingError, UnsupportedError, UsageError
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.training import train
from mtaw_fast.training.encoder import runner
from mtaw_fast.training.encoder.prefetch import made_ahead
from mtaw_fast.training.steps import static_step as static_module
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.full_step import Stepper
from mtaw_fast.training.steps.static_batch import Budget, StaticBatch
from mtaw_fast.training.steps.static_step import StaticStep
from tests.support.training.runs import fail_at, same
from tests.support.training.steps import CPU, batches, new_model, still_config


def test_a_batch_over_the_budget_is_refused() -> None:
    batch = Batch.of(Sessions.from_lists([[1, 2, 3, 4]]), 1, CPU)
    for budget in (Budget(clicks=2, rows=8), Budget(clicks=8, rows=2)):
        with pytest.raises(UsageError, match="a batch of 3 clicks and 3 samples does not fit"):
            StaticBatch(budget, CPU).stage(batch)


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
    static.stage(batch).load(0)
    clicks = static.inputs.tiles.slot_click
    assert sorted(clicks[clicks >= 0].tolist()) == list(range(budget.clicks))


def test_padding_changes_neither_the_loss_nor_any_gradient() -> None:
    config = still_config().replace(dropout=0.3, recent_weight=2.0)
    model = new_model(config).double()
    batch = batches(config)[0]
    static = StaticBatch(Budget(len(batch.clicks) + 9, len(batch.rows) + 5), CPU)
    static.stage(batch).load(5)
    seed = torch.tensor([5])

    def of(clicks: Any, offsets: Any, rows: Any, targets: Any, weights: Any) -> tuple[torch.Tensor, ...]:
        queries = model(clicks, offsets, seed=seed)[rows]
        loss = aw_loss(queries, model.item_embedding, targets, scale=16, gamma=2, weights=weights, backend="reference")
        return loss, *torch.autograd.grad(loss, list(model.parameters()))

    inputs = static.inputs
    padded = of(inputs.clicks, inputs.offsets, inputs.rows, inputs.targets, inputs.weights)
    for a, b in zip(padded, of(batch.clicks, batch.offsets, batch.rows, batch.targets, None), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")


@pytest.mark.parametrize(("min_prefix", "recent"), [(1, 0.0), (2, 0.0), (1, 2.0)])
def test_it_takes_the_steps_of_the_eager_stepper(min_prefix: int, recent: float) -> None:
    config = still_config(recent_weight=recent)
    eager, static = Stepper(new_model(config), config), StaticStep(new_model(config), config, "reference")
    for epoch in range(2):
        losses = []
        for step, batch in enumerate(batches(config, min_prefix)):
            losses.append(eager.step(batch, epoch + step / 10))
            first = static.step(batch, epoch + step / 10)
            if step == 0:
                assert first == pytest.approx(losses[0], rel=1e-5)
        assert static.end_epoch() == pytest.approx(eager.end_epoch(), rel=1e-5)
    assert len(set(losses)) == len(losses) > 2
    for (name, a), b in zip(eager.model.named_parameters(), static.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-5, msg=name)
    theirs, ours = eager.moments(), static.moments()
    assert theirs.keys() == ours.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=2e-3, atol=1e-6, msg=name)


def test_moments_go_from_one_stepper_to_the_other() -> None:
    config = still_config()
    first, second, *_ = batches(config)
    eager, other = Stepper(new_model(config), config), StaticStep(new_model(config), config, "reference")
    static = StaticStep(new_model(config), config, "reference")
    eager.step(first, 0.5)
    other.load_moments({name: value.numpy() for name, value in eager.moments().items()})
    other.model.load_state_dict(eager.model.state_dict())
    static.step(first, 0.5)
    for stepper in (other, static):
        stepper.step(second, 0.6)
    for (name, a), b in zip(other.model.named_parameters(), static.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)
    with pytest.raises(KeyError):
        other.load_moments({})


@on_gpu
def test_replays_take_the_steps_of_the_work_that_was_captured() -> None:
    config, device = still_config(), torch.device("cuda")
    graph, static = (StaticStep(new_model(config, device), config, captures=captures) for captures in (True, False))
    for epoch in range(2):
        for step, batch in enumerate(batches(config)):
            for stepper in (graph, static):
                stepper.step(batch, epoch + step / 10)
        assert graph.end_epoch() == pytest.approx(static.end_epoch(), rel=1e-5)
    for (name, a), b in zip(graph.model.named_parameters(), static.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("device", [CPU, pytest.param(torch.device("cuda"), marks=on_gpu)], ids=str)
def test_dropout_differs_from_step_to_step_and_follows_the_seed(device: torch.device) -> None:
    config = still_config().replace(dropout=0.5, lr=1e-30)
    stepper, batch = StaticStep(new_model(config, device), config, captures=True), batches(config)[0]

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


def test_batches_staged_in_another_thread_take_the_same_steps() -> None:
    config = still_config().replace(dropout=0.3)
    plain, staged = (StaticStep(new_model(config), config, "reference") for _ in range(2))
    chosen = batches(config)[:8]
    torch.manual_seed(5)
    for batch in chosen:
        plain.step(batch, 0.5)
    torch.manual_seed(5)
    for _, ready in made_ahead(staged.stage, chosen, 2):
        staged.step(ready, 0.5)
    assert staged.end_epoch() == plain.end_epoch()
    for a, b in zip(plain.model.parameters(), staged.model.parameters(), strict=True):
        assert torch.equal(a, b)


class NoCapture(StaticStep):
    """Captures its work, which fails."""

    def __init__(self, config: Config) -> None:
        super().__init__(new_model(config), config)
        self._captures = True

    def _capture(self, static: StaticBatch) -> torch.cuda.CUDAGraph:
        self._work(static.inputs)  # as a warm-up does
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nfurther lines")


def test_a_capture_that_fails_leaves_the_eager_step_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    config = still_config().replace(train_step="auto")
    graph, static = NoCapture(config), StaticStep(new_model(config), config)
    with caplog.at_level(logging.WARNING, logger="mtaw_fast"):
        for batch in batches(config):
            for stepper in (graph, static):
                stepper.step(batch, 0.5)
    assert graph.end_epoch() == static.end_epoch()
    for a, b in zip(graph.model.parameters(), static.model.parameters(), strict=True):
        assert torch.equal(a, b)
    error = "CUDA error: operation not permitted when stream is capturing"
    assert caplog.messages == [f"training step: eager, since its capture failed ({error})"]
    asked = NoCapture(still_config().replace(train_step="cuda-graph"))
    before = [parameter.detach().clone() for parameter in asked.model.parameters()]
    with pytest.raises(UnsupportedError, match=r"the capture failed \(CUDA error: .*capturing\); choose auto or eager"):
        asked.step(batches(config)[0], 0.5)
    assert all(torch.equal(a, b) for a, b in zip(before, asked.model.parameters(), strict=True))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_after_a_loss_that_is_not_finite_no_step_changes_anything(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = still_config()
    fail_at(monkeypatch, static_module, 3, value)
    stepper = StaticStep(new_model(config), config, "reference")
    first, second, third, fourth, *_ = batches(config)
    stepper.step(first, 0.5)
    stepper.step(second, 0.5)
    kept = [tensor.detach().clone() for tensor in (*stepper.model.parameters(), *stepper.moments().values())]
    stepper.step(third, 0.5)
    stepper.step(fourth, 0.5)
    loss = stepper.end_epoch()
    assert loss == value or (math.isnan(loss) and math.isnan(value))
    assert stepper.failed_step == 2
    for a, b in zip(kept, (*stepper.model.parameters(), *stepper.moments().values()), strict=True):
        assert torch.equal(a, b)


def test_losses_are_read_at_the_first_step_and_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_module, "_READ_EVERY", 3)
    config = still_config()
    eager, static = Stepper(new_model(config), config), StaticStep(new_model(config), config, "reference")
    chosen = batches(config)[:2] * 3
    true = [eager.step(batch, 0.5) for batch in chosen]
    losses_read = [static.step(batch, 0.5) for batch in chosen]
    assert losses_read == pytest.approx([true[0], true[0], true[2], true[2], true[2], true[5]], rel=1e-4)


def test_a_training_learns_names_a_step_that_fails_and_resumes_to_the_same_bits(
    ring: Dataset, small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "make_stepper", lambda model, config, _: StaticStep(model, config, "reference"))
    whole = train(ring, small, tmp_path / "whole")
    assert whole.metrics["MRR@20"] > 80
    assert whole.history[3]["loss"] < whole.history[0]["loss"]
    with monkeypatch.context() as patch:
        fail_at(patch, static_module, 18 + 5, math.nan)
        with pytest.raises(TrainingError, match=r"the loss is nan in search epoch 2, step 5 of 18 \(sessions \d+"):
            train(ring, small, tmp_path / "cut")
    state = {path.name for path in (tmp_path / "cut").iterdir()}
    assert {"checkpoint-search-1.safetensors", "best-1.safetensors"} <= state
    assert "checkpoint-search-2.safetensors" not in state
    assert same(train(ring, small, tmp_path / "cut", resume=True).model, whole.model)
