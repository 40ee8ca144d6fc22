"""A training step over static buffers with fused encoder, loss and Adam takes the steps of the references."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mtaw_fast.kernels.aw_loss import launchers
from mtaw_fast.kernels.prefix_interest import fused as fused_interest
from mtaw_fast.training.group.process_group import ProcessGroup
from mtaw_fast.training.steps.full_step import encoder_dtype
from mtaw_fast.training.steps.static_step import StaticStep
from tests.support.training.group_threads import in_threads, shard_stepper
from tests.support.training.steps import CPU, batches, new_model, still_config


def test_it_takes_the_steps_of_the_references(device: torch.device) -> None:
    plain = still_config().replace(dropout=0.3, loss_backend="reference")
    fused = plain.replace(loss_backend="auto")
    reference = StaticStep(new_model(plain, CPU), plain, adam_backend="reference")
    ours = StaticStep(new_model(fused, device), fused, adam_backend="triton")
    for step, batch in enumerate(batches(plain)[:2]):
        for stepper in (reference, ours):
            torch.manual_seed(step)
            stepper.step(batch, step / 2)
    assert ours.end_epoch() == pytest.approx(reference.end_epoch(), rel=1e-5)
    for (name, a), b in zip(reference.model.named_parameters(), ours.model.parameters(), strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-4, atol=1e-5, msg=name)


def test_a_group_takes_them_too(device: torch.device) -> None:
    """Each process its own slice of the catalog through the kernels, the sums added up between them."""
    plain = still_config().replace(loss_backend="reference")
    fused = plain.replace(loss_backend="triton")
    reference, steps = StaticStep(new_model(plain, CPU), plain, adam_backend="reference"), batches(plain)[:2]
    losses = [reference.step(batch, step / 2) for step, batch in enumerate(steps)]

    def work(process_group: ProcessGroup) -> tuple[list[float], Tensor]:
        stepper = shard_stepper(fused, new_model(plain, CPU), process_group)
        step_losses = [stepper.step(stepper.stage(batch), step / 2) for step, batch in enumerate(steps)]
        return step_losses, stepper.model.item_embedding.detach().cpu()

    results = in_threads(2, work, device, in_turn=True)
    assert results[0][0] == results[1][0]
    assert results[0][0][0] == pytest.approx(losses[0], rel=1e-5)
    items = torch.cat([items for _, items in results])
    torch.testing.assert_close(items, reference.model.item_embedding.detach(), rtol=1e-4, atol=1e-5)


def test_kernels_run_in_the_dtype_that_the_config_trains_in(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen where they are launched: the encoder's products and what it keeps, and the loss's unit vectors."""
    launched: list[tuple[str, torch.dtype]] = []
    interest, unit_rows = fused_interest._forward, launchers.unit_rows

    def watched_interest(clicks: Tensor, tiles: Any, dropout: Any, given: torch.dtype, weights: Any) -> Any:
        out, kept = interest(clicks, tiles, dropout, given, weights)
        launched.append(("encoder", kept.interests.dtype))
        return out, kept

    def watched_rows(vectors: Tensor, given: torch.dtype) -> tuple[Tensor, Tensor]:
        unit, norms = unit_rows(vectors, given)
        launched.append(("loss", unit.dtype))
        return unit, norms

    monkeypatch.setattr(fused_interest, "_forward", watched_interest)
    monkeypatch.setattr(launchers, "unit_rows", watched_rows)
    config = still_config().replace(compute_dtype="bfloat16")
    StaticStep(new_model(config, device), config).step(batches(config)[0], 0.5)
    assert launched == [("encoder", torch.bfloat16), ("loss", torch.bfloat16), ("loss", torch.bfloat16)]
    items = new_model(config, device).item_embedding
    assert encoder_dtype(config, items) == torch.bfloat16
    assert encoder_dtype(config.replace(compute_dtype="float32"), items) == torch.float32
