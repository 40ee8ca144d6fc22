"""The optimisation step: forward, AW loss over the whole catalog, clipped Adam update."""

from __future__ import annotations

import math

import torch

from mtaw_fast.config import Config
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.model import MTAW
from mtaw_fast.training.batch import Batch

_BETAS = (0.9, 0.999)


def compute_dtype(config: Config, device: torch.device) -> torch.dtype | None:
    """Dtype of the loss's matrix products: the config's, or bfloat16 where the hardware multiplies it."""
    if config.compute_dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[config.compute_dtype]
    if config.negatives:
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    capabilities = torch.backends.cpu.get_cpu_capability()
    has_bf16 = "AVX512" in capabilities and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_bf16 else None


def learning_rate(config: Config, progress: float) -> float:
    """Learning rate after `progress` epochs (fractional): linear warm-up, then constant or cosine to 0."""
    if progress < config.warmup_epochs:
        return config.lr * progress / config.warmup_epochs
    if config.schedule == "constant":
        return config.lr
    after = (progress - config.warmup_epochs) / max(config.epochs - config.warmup_epochs, 1e-9)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(after, 1.0)))


class Stepper:
    """Owns the optimiser of a model and takes steps with it."""

    def __init__(self, model: MTAW, config: Config) -> None:
        self.model, self._config = model, config
        self._device = model.item_embedding.device
        self._dtype = compute_dtype(config, self._device)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.lr, betas=_BETAS, weight_decay=config.weight_decay, fused=True
        )

    def step(self, batch: Batch, progress: float) -> float:
        """Take one step; returns the mean loss over the batch's samples, before the step.

        `progress` is the number of epochs done, fractional. A non-finite loss is returned without
        touching the weights.
        """
        loss = self._loss(batch)
        value = loss.item()
        if not math.isfinite(value):
            return value
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self._config, progress)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self._config.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._config.clip_norm)
        self.optimizer.step()
        return value

    def _loss(self, batch: Batch) -> torch.Tensor:
        config = self._config
        queries = self.model(batch.clicks, batch.offsets, tiles=batch.tiles)[batch.rows]
        return aw_loss(
            queries,
            self.model.item_embedding,
            batch.targets,
            scale=config.scale,
            gamma=config.gamma,
            negatives=config.negatives,
            compute_dtype=self._dtype,
            backend=config.loss_backend,
        )
