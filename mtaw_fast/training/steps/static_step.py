"""A training step whose inputs and results all stay on the device, so that a CUDA graph can capture it.

`StaticStep` runs it operation by operation, on any device. Unlike `Stepper` it reads losses later, and draws dropout
from a seed that comes with each batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.config import Config
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.kernels.scatter import add_rows
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.adam_state import AdamState
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.full_step import compute_dtype, encoder_dtype, learning_rate
from mtaw_fast.training.steps.static_batch import STAGED, Budget, StagedBatch, StaticBatch, StaticInputs
from mtaw_fast.training.steps.step_losses import LossAccumulator

_READ_EVERY = 32  # steps between readings of the device's losses
_SEEDS = 1 << 62  # a step's dropout seed is below; torch's generator on the host draws it


class StaticStep:
    """Owns a model's Adam state and takes steps without waiting for the device.

    adam_backend: the backend of `adam_step`.
    """

    input_device = torch.device("cpu")

    def __init__(self, model: MTAW, config: Config, adam_backend: str = "auto") -> None:
        self.model, self._config = model, config
        self._device = model.item_embedding.device
        # One more is being made and one is about to be loaded.
        self.ahead = STAGED - 2 if self._device.type == "cuda" else 0
        self._dtype = compute_dtype(config, self._device)
        self._encoder_dtype = encoder_dtype(config, model.item_embedding)
        self._adam = AdamState(model, config, backend=adam_backend)
        self._losses = LossAccumulator(self._device)
        self._batches: dict[Budget, StaticBatch] = {}
        self._steps, self._mass = 0, 0.0
        self._latest = float("nan")
        self.failed_step: int | None = None

    def stage(self, batch: Batch) -> StagedBatch:
        """Pad a batch in host memory for `step`; may be called from another thread, see `ahead`."""
        budget = Budget.for_batch(batch, self._config.optimizer.batch_prefixes)
        static = self._batches.get(budget)
        if static is None:
            static = self._batches[budget] = StaticBatch(budget, self._device)
        return static.stage(batch)

    def step(self, batch: Batch | StagedBatch, progress: float) -> float:
        """Take one step; returns the mean loss of the latest step that has been read, or the first non-finite one.

        batch: in host memory, from `stage` or not; staged ones are taken in their order. The first step of an epoch is
        waited for, later losses are read now and then. A non-finite loss leaves the weights unchanged, and so do all
        steps after it.
        """
        staged = self.stage(batch) if isinstance(batch, Batch) else batch
        staged.load(int(torch.randint(_SEEDS, ())))
        self._adam.rate.fill_(learning_rate(self._config, progress))
        self._run(staged.static)
        self._steps += 1
        self._mass += staged.mass
        self._read_losses()
        return self._latest

    def end_epoch(self) -> float:
        """Wait for all steps since the last call; returns their mean loss over samples (non-finite: see step)."""
        stats = self._losses.wait()
        self.failed_step = stats.failed
        mean = stats.total / (self._mass or 1.0) if stats.failed is None else stats.loss
        self._losses.reset()
        self._steps, self._mass = 0, 0.0
        return mean

    def moments(self) -> dict[str, Tensor]:
        """Adam's state under '<moment>.<weight>', as `Stepper.moments`."""
        return self._adam.moments()

    def load_moments(self, state: Mapping[str, np.ndarray]) -> None:
        """Load what `moments` returns; KeyError or RuntimeError if the state is of another model."""
        self._adam.load_moments(state)

    def _run(self, static: StaticBatch) -> None:
        """Take the step on what the buffers hold."""
        self._work(static.inputs)

    def _work(self, inputs: StaticInputs) -> None:
        config, items = self._config, self.model.item_embedding
        # The clicks' vectors are a separate leaf, as in `Stepper`: the loss's gradient is the only N x d array.
        clicked = items.detach()[inputs.clicks].requires_grad_()
        queries = self.model.interests(
            clicked, inputs.offsets, tiles=inputs.tiles, seed=inputs.seed, compute_dtype=self._encoder_dtype
        )[inputs.rows]
        loss = aw_loss(
            queries,
            items,
            inputs.targets,
            scale=config.model.scale,
            gamma=config.loss.gamma,
            weights=inputs.weights,
            negatives=config.loss.negative_term,
            compute_dtype=self._dtype,
            backend=config.loss.loss_backend,
        )
        d_items, d_clicked, *d_small = torch.autograd.grad(loss, [items, clicked, *self._adam.small])
        add_rows(d_items, inputs.clicks, d_clicked)
        self._losses.add(loss.detach(), inputs.mass)
        self._adam.update(d_items, d_small, self._losses.healthy)

    def _read_losses(self) -> None:
        stats = self._losses.wait() if self._steps == 1 else self._losses.arrived()
        if stats is not None:
            self._latest, self.failed_step = stats.loss, stats.failed
        if self._steps % _READ_EVERY == 0:
            self._losses.request()
