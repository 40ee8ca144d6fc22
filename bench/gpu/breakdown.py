"""The time of each part of a training step, on the host and on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from bench.gpu.setting import Setting
from bench.gpu.step_cases import drawn_sessions, steppers
from mtaw_fast.kernels.adam import AdamGroup, AdamSettings, adam_step
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.kernels.scatter import add_rows
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.static_batch import Budget, StaticBatch

_CPU = torch.device("cpu")


def breakdown(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time the parts of a step. Host: making, padding, copying a batch. Device: encoder, loss, scatter, Adam."""
    stepper, batch = steppers(setting, dropout=0.0)
    config, model = stepper._config, stepper.model
    sessions = drawn_sessions(setting)
    static = StaticBatch(Budget.for_batch(batch, config.optimizer.batch_prefixes), setting.device)
    facts = {"samples": len(batch.rows), "clicks": len(batch.clicks)}

    def host(part: str, work: Any) -> dict[str, Any]:
        return {"part": part, "on": "host", **facts, **setting.host_time(work)}

    def device(part: str, work: Any) -> dict[str, Any]:
        return {"part": part, "on": "device", **facts, **setting.time(work)}

    yield host("batch of sessions", lambda: Batch.of(sessions, 1, _CPU))
    yield host("padding and tile plan", lambda: static.stage(batch))
    staged = static.stage(batch)
    yield host("copy begun", lambda: staged.load(0))
    static.load(batch, 0)
    inputs, items = static.inputs, model.item_embedding
    small = [parameter for parameter in model.parameters() if parameter is not items]
    clicked = items.detach()[inputs.clicks].requires_grad_()

    def encoded() -> torch.Tensor:
        return model.interests(
            clicked, inputs.offsets, tiles=inputs.tiles, seed=inputs.seed, compute_dtype=stepper._encoder_dtype
        )[inputs.rows]

    def lost(queries: torch.Tensor) -> torch.Tensor:
        return aw_loss(
            queries, items, inputs.targets, scale=config.model.scale, gamma=config.loss.gamma, weights=inputs.weights,
            compute_dtype=stepper._dtype, backend=config.loss.loss_backend,
        )  # fmt: skip

    queries = encoded().detach().requires_grad_()
    ahead = torch.ones_like(queries)
    d_items, d_clicked = torch.zeros_like(items), torch.ones_like(clicked)
    yield device("copy to the device", lambda: static.load(batch, 0))
    yield device("encoder forward", encoded)
    yield device("encoder forward and backward", lambda: torch.autograd.grad(encoded(), [clicked, *small], ahead))
    yield device("loss forward", lambda: lost(queries))
    yield device("loss forward and backward", lambda: torch.autograd.grad(lost(queries), [queries, items]))
    yield device("clicks' gradient scattered", lambda: add_rows(d_items, inputs.clicks, d_clicked))
    flat = items.detach().view(-1)
    group = AdamGroup(flat.clone(), d_items.view(-1), torch.zeros_like(flat), torch.zeros_like(flat))
    count, rate = (torch.tensor(value, device=setting.device) for value in (0.0, 1e-3))
    on, settings = torch.tensor(True, device=setting.device), AdamSettings(clip_norm=config.optimizer.clip_norm)
    yield device("Adam over the item vectors", lambda: adam_step([group], count, rate, apply=on, settings=settings))
    yield device("whole step, operation by operation", lambda: stepper.step(batch, 1.0))
