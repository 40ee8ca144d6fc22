"""A group's share of a batch, and its steps: losses, weights, moments and validation are those of one process."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.training.encoder.validation import validation_metrics
from mtaw_fast.training.group import step as step_module
from mtaw_fast.training.group.process_group import ProcessGroup
from mtaw_fast.training.group.shards import Shards, Share
from mtaw_fast.training.group.step import GroupStepper
from mtaw_fast.training.group.validation import group_metrics
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.full_step import Stepper
from tests.support.training.group_threads import CPU, in_threads, shard_stepper
from tests.support.training.ring import N_ITEMS, ring_sessions
from tests.support.training.steps import batches, new_model, still_config

FEW = 11


@settings(max_examples=60, deadline=None)
@given(
    sessions=st.lists(st.lists(st.integers(0, FEW - 1), min_size=2, max_size=7), min_size=1, max_size=9),
    world=st.integers(1, 5),
    counted=st.sampled_from(["all", "new"]),
)
def test_shares_are_the_batch_and_agree_with_one_another(sessions: list[list[int]], world: int, counted: str) -> None:
    batch, shards = Batch.of(Sessions.from_lists(sessions), 1, CPU, counted), Shards(FEW, world)
    shares = [Share.of(batch, shards, rank, CPU) for rank in range(world)]
    table = torch.arange(FEW)
    clicks, rows = [], []
    for rank, share in enumerate(shares):
        assert share.needed == [other.requested_by[rank] for other in shares]
        received = torch.cat(
            [table[shards.rows(o)][other.requested.split(other.requested_by)[rank]] for o, other in enumerate(shares)]
        )
        assert received.tolist() == sorted(set(received.tolist()))
        clicks.append(received[share.item_rows])
        rows.append(share.rows + share.first_click)
        assert len(share.rows) == share.samples[rank]
        assert share.offsets[-1] == len(share.item_rows)
        assert (share.clicks, share.mass) == (len(batch.clicks), batch.mass)
        assert torch.equal(share.targets, batch.targets)
    assert torch.equal(torch.cat(clicks), batch.clicks)
    assert torch.equal(torch.cat(rows), batch.rows)


# Of losses and moments, relative: sums of some hundred float32 numbers in another order, through 5 steps.
TOLERANCE = 2e-5
# Of weights, in learning rates: for a gradient that is mostly rounding, Adam still moves by its sign.
OF_A_STEP = 1e-3


COUNTS = np.array([0.0, 1.0, 3.0], dtype=np.float32)


def typed_batches() -> list[Batch]:
    sessions = ring_sessions(40, seed=9)
    types = np.random.default_rng(3).integers(0, 3, sessions.n_clicks).astype(np.uint8)
    whole = Sessions(sessions.items, sessions.offsets, None, types)
    return [Batch.of(whole.slice(begin, begin + 10), 1, CPU, type_weights=COUNTS) for begin in range(0, 40, 10)]


def trained(steps: list[Batch], stepper: Stepper | GroupStepper) -> dict[str, np.ndarray]:
    losses = [stepper.step(stepper.stage(batch), 0.5 + number / 10) for number, batch in enumerate(steps)]  # type: ignore[arg-type]
    arrays = {name: weights.detach().numpy() for name, weights in stepper.model.named_parameters()}
    moments = {name: moment.numpy() for name, moment in stepper.moments().items()}
    return {"losses": np.array(losses), "mean": np.array(stepper.end_epoch()), **arrays, **moments}


def together(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Combine the shards of all processes; small weights must have the same bits in all of them."""
    whole = dict(parts[0])
    for name, array in whole.items():
        if name.endswith("item_embedding") and array.ndim == 2:
            whole[name] = np.concatenate([part[name] for part in parts])
        else:
            assert all(np.array_equal(array, part[name]) for part in parts), name
    return whole


def trained_by(world: int, steps: list[Batch], config: Config) -> dict[str, np.ndarray]:
    def work(process_group: ProcessGroup) -> dict[str, np.ndarray]:
        return trained(steps, shard_stepper(config, new_model(config), process_group))

    return together(in_threads(world, work))


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize(
    "changes", [{}, {"gamma": 0.0, "clip_norm": 0.0}, {"recent_weight": 2.0, "gamma": 6.0}, "typed"], ids=str
)
def test_the_steps_of_one_process(changes: Any, world: int) -> None:
    config = still_config().replace(**({} if changes == "typed" else changes))
    steps = typed_batches() if changes == "typed" else batches(config)
    expected = trained(steps, Stepper(new_model(config), config))
    got = trained_by(world, steps, config)
    assert set(got) == set(expected)
    for name, array in expected.items():
        largest = float(np.abs(array).max())
        is_weight = f"exp_avg.{name}" in expected
        allowed = OF_A_STEP * config.optimizer.lr if is_weight else TOLERANCE * max(largest, 1e-6)
        assert np.abs(got[name] - array).max() <= allowed, name


def test_a_batch_of_fewer_sessions_than_processes() -> None:
    config = still_config()
    steps = [Batch.of(Sessions.from_lists([[1, 2, 3, 4]]), 1, CPU)] * 3
    expected = trained(steps, Stepper(new_model(config), config))
    got = trained_by(3, steps, config)
    np.testing.assert_allclose(got["losses"][:2], expected["losses"][:2], rtol=1e-6)
    # After two updates by Adam, the loss backends of a single process differ by 7e-7 already.
    np.testing.assert_allclose(got["losses"][2], expected["losses"][2], rtol=3e-6)
    np.testing.assert_allclose(got["item_embedding"], expected["item_embedding"], atol=1e-5)


def test_bfloat16_products_stay_near_and_runs_give_the_same_bits() -> None:
    config = still_config()
    low = config.replace(compute_dtype="bfloat16")
    one, three, again = (trained_by(world, batches(low), low) for world in (1, 3, 3))
    assert all(np.array_equal(three[name], again[name]) for name in three)
    exact = trained(batches(config), Stepper(new_model(config), config))
    for other in (one, exact):
        np.testing.assert_allclose(three["losses"], other["losses"], rtol=1e-2)


def test_a_loss_that_is_not_finite_moves_no_weight_in_any_process(monkeypatch: pytest.MonkeyPatch) -> None:
    right, config = step_module.loss_of_sums, still_config()
    monkeypatch.setattr(step_module, "loss_of_sums", lambda *sums, **named: right(*sums, **named) * math.nan)

    def work(process_group: ProcessGroup) -> tuple[float, GroupStepper]:
        stepper = shard_stepper(config, new_model(config), process_group)
        return stepper.step(stepper.stage(batches(config)[0]), 1.0), stepper

    start = new_model(config)
    for rank, (loss, stepper) in enumerate(in_threads(2, work)):
        assert math.isnan(loss)
        assert stepper.failed_step == 0
        assert torch.equal(stepper.model.item_embedding, start.item_embedding[Shards(N_ITEMS, 2).rows(rank)])


@pytest.mark.parametrize("world", [1, 2, 4])
def test_validation_is_that_of_one_process(world: int) -> None:
    config, sessions = still_config(recent_weight=2.0), ring_sessions(50, seed=6)
    types = np.random.default_rng(3).integers(0, 3, sessions.n_clicks).astype(np.uint8)
    typed = Sessions(sessions.items, sessions.offsets, None, types)
    model = new_model(config)
    for weights in (None, COUNTS):
        expected = validation_metrics(model, typed, 1, weights)

        def work(process_group: ProcessGroup, weights: Any = weights) -> dict[str, float]:
            stepper = shard_stepper(config, model, process_group)
            return group_metrics(stepper.model, stepper.shards, process_group, typed, 1, weights)

        for got in in_threads(world, work):
            assert got == pytest.approx(expected, rel=1e-9)
