"""The optimization step: forward, AW loss over the whole catalog, clipped Adam update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.config import Config
from mtaw_fast.kernels import triton_device
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.kernels.scatter import add_rows
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.adam_state import AdamState
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.threads import current_threads

AHEAD = 2  # batches that are ready for a GPU


class AnyStepper(Protocol):
    """Trains a model, one batch after the other.

    input_device: where the batches must be. ahead: how many staged batches another thread may have ready.
    failed_step: number (from 0, in the epoch) of the first step with a loss that was not finite, as far as known.
    """

    model: MTAW
    failed_step: int | None

    @property
    def input_device(self) -> torch.device: ...
    @property
    def ahead(self) -> int: ...
    def stage(self, batch: Batch) -> Any: ...
    def step(self, batch: Any, progress: float) -> float: ...
    def end_epoch(self) -> float: ...
    def moments(self) -> dict[str, Tensor]: ...
    def load_moments(self, state: Mapping[str, np.ndarray]) -> None: ...


def compute_dtype(config: Config, device: torch.device) -> torch.dtype | None:
    """Return the dtype of the loss's matrix products: the config's, or bfloat16 if the hardware has it."""
    if config.loss.compute_dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[config.loss.compute_dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    capabilities = torch.backends.cpu.get_cpu_capability()
    has_bf16 = "AVX512" in capabilities and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_bf16 else None


def encoder_dtype(config: Config, items: Tensor) -> torch.dtype | None:
    """Return the dtype of the encoder's matrix products: the loss's for the fused kernels, else None (the weights').

    On a CPU the encoder is a tenth of the step and gains nothing from fewer bits.
    """
    return None if triton_device.not_supported_reasons(items) else compute_dtype(config, items.device)


def learning_rate(config: Config, progress: float) -> float:
    """Return the learning rate after `progress` epochs (fractional): linear warm-up, then constant or cosine to 0."""
    if progress < config.optimizer.warmup_epochs:
        return config.optimizer.lr * progress / config.optimizer.warmup_epochs
    if config.optimizer.schedule == "constant":
        return config.optimizer.lr
    fraction = (progress - config.optimizer.warmup_epochs) / max(
        config.optimizer.epochs - config.optimizer.warmup_epochs, 1e-9
    )
    return config.optimizer.lr * 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))


class EpochLoss:
    """The losses of an epoch's steps, for steppers that read each one."""

    def __init__(self) -> None:
        self._total, self._mass, self._steps, self._latest = 0.0, 0.0, 0, math.nan
        self.failed_step: int | None = None

    def stage(self, batch: Batch) -> Any:
        """Return the batch, which is on the device already. May be called from another thread."""
        return batch

    def is_finite(self, value: float) -> bool:
        """Whether a step's loss is finite; else the step has failed."""
        if not math.isfinite(value):
            self.failed_step, self._latest = self._steps, value
        return math.isfinite(value)

    def add(self, value: float, mass: float) -> None:
        """Count a step with the mean loss `value` over samples of that `mass`."""
        self._total += value * mass
        self._mass += mass
        self._steps += 1

    def end_epoch(self) -> float:
        """Return the mean loss over the samples of all steps since the last call, or a non-finite loss."""
        mean = self._total / (self._mass or 1.0) if self.failed_step is None else self._latest
        self._total, self._mass, self._steps = 0.0, 0.0, 0
        return mean


class Stepper(EpochLoss):
    """Owns a model's Adam state and takes steps operation by operation."""

    def __init__(self, model: MTAW, config: Config) -> None:
        super().__init__()
        self.model, self._config = model, config
        self.input_device = model.item_embedding.device
        self.ahead = AHEAD if self.input_device.type == "cuda" else 0
        self._dtype = compute_dtype(config, self.input_device)
        self._encoder_dtype = encoder_dtype(config, model.item_embedding)
        self._threads = current_threads().pieces
        self._adam = AdamState(model, config, threads=self._threads)
        self.moments, self.load_moments = self._adam.moments, self._adam.load_moments

    def step(self, batch: Batch, progress: float) -> float:
        """Take one step; returns the mean loss over the batch's samples before the step.

        progress: epochs done, fractional. A non-finite loss is returned without changing the weights.
        """
        # The clicks' vectors are a separate leaf: their gradient is added to that of the catalog side, without an N x d
        # copy that is zero except in a thousand rows.
        clicked = self.model.item_embedding.detach()[batch.clicks].requires_grad_()
        loss = self._loss(clicked, batch)
        value = loss.item()
        if not self.is_finite(value):
            return value
        for parameter in self.model.parameters():
            parameter.grad = None
        loss.backward()
        gradient = self.model.item_embedding.grad
        assert gradient is not None
        assert clicked.grad is not None
        add_rows(gradient, batch.clicks, clicked.grad)
        self._adam.rate.fill_(learning_rate(self._config, progress))
        self._adam.update(gradient, [weights.grad for weights in self._adam.small if weights.grad is not None])
        self.add(value, batch.mass)
        return value

    def _loss(self, clicked: torch.Tensor, batch: Batch) -> torch.Tensor:
        config = self._config
        queries = self.model.interests(clicked, batch.offsets, tiles=batch.tiles, compute_dtype=self._encoder_dtype)[
            batch.rows
        ]
        return aw_loss(
            queries,
            self.model.item_embedding,
            batch.targets,
            scale=config.model.scale,
            gamma=config.loss.gamma,
            weights=batch.weights,
            negatives=config.loss.negative_term,
            compute_dtype=self._dtype,
            backend=config.loss.loss_backend,
            threads=self._threads,
        )
