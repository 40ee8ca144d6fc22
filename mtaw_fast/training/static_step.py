"""A training step whose every input and result stays on the device: what a CUDA graph can capture.

`StaticStep` runs it operation by operation, on any device. It does what `Stepper` does, but reads losses later and
draws dropout from a seed that comes with every batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.config import Config
from mtaw_fast.kernels.adam import AdamGroup, AdamSettings, adam_step
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.kernels.scatter import add_rows
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.batch import Batch
from mtaw_fast.training.static_batch import STAGED, Budget, StagedBatch, StaticBatch, StaticInputs
from mtaw_fast.training.step import BETAS, MOMENTS, compute_dtype, encoder_dtype, learning_rate
from mtaw_fast.training.step_losses import Tally

_READ_EVERY = 32  # steps between readings of the device's losses
_SEEDS = 1 << 62  # a step's dropout seed is drawn below, from torch's generator on the host


class StaticStep:
    """Owns a model's Adam state and takes steps with it, without waiting for the device in any of them.

    All weights but the item vectors become views of one buffer, so that Adam updates them in one launch.
    adam_backend: of `adam_step`.
    """

    input_device = torch.device("cpu")

    def __init__(self, model: MTAW, config: Config, adam_backend: str = "auto") -> None:
        self.model, self._config, self._adam_backend = model, config, adam_backend
        self._device = model.item_embedding.device
        # Beside those that lie ready one is being made and one is about to be loaded.
        self.ahead = STAGED - 2 if self._device.type == "cuda" else 0
        self._dtype = compute_dtype(config, self._device)
        self._encoder_dtype = encoder_dtype(config, model.item_embedding)
        self._settings = AdamSettings(*BETAS, eps=1e-8, weight_decay=config.weight_decay, clip_norm=config.clip_norm)
        self._small = [parameter for parameter in model.parameters() if parameter is not model.item_embedding]
        self._flat = _flatten(self._small)
        item_weights = model.item_embedding.detach().view(-1)
        self._moments = [
            (torch.zeros_like(weights), torch.zeros_like(weights)) for weights in (item_weights, self._flat)
        ]
        self._step = torch.zeros((), device=self._device)
        self._rate = torch.zeros((), device=self._device)
        self._tally = Tally(self._device)
        self._batches: dict[Budget, StaticBatch] = {}
        self._steps, self._mass = 0, 0.0
        self._latest = float("nan")
        self.failed_step: int | None = None

    def stage(self, batch: Batch) -> StagedBatch:
        """Pad a batch in host memory for `step`; may be called from another thread, see `ahead`."""
        budget = Budget.for_batch(batch, self._config.batch_prefixes)
        static = self._batches.get(budget)
        if static is None:
            static = self._batches[budget] = StaticBatch(budget, self._device)
        return static.stage(batch)

    def step(self, batch: Batch | StagedBatch, progress: float) -> float:
        """Take one step; returns the mean loss of the latest step that is known of, a non-finite one for good.

        batch: in host memory, as it is or from `stage`; staged ones are taken in their order. The first step of an
        epoch is waited for, later ones are heard of now and then. A non-finite loss leaves the weights as they were
        before its step, and so do all steps after it.
        """
        staged = self.stage(batch) if isinstance(batch, Batch) else batch
        staged.load(int(torch.randint(_SEEDS, ())))
        self._rate.fill_(learning_rate(self._config, progress))
        self._run(staged.static)
        self._steps += 1
        self._mass += staged.mass
        self._listen()
        return self._latest

    def end_epoch(self) -> float:
        """Wait for every step since the last call; returns their mean loss over samples (non-finite: see step)."""
        told = self._tally.wait()
        self.failed_step = told.failed
        mean = told.total / (self._mass or 1.0) if told.failed is None else told.loss
        self._tally.reset()
        self._steps, self._mass = 0, 0.0
        return mean

    def moments(self) -> dict[str, Tensor]:
        """Adam's state under '<moment>.<weight>', as `Stepper.moments`."""
        state: dict[str, Tensor] = {}
        for name, first, second in self._named_moments():
            state |= dict(zip((f"{moment}.{name}" for moment in MOMENTS), (first, second, self._step), strict=True))
        return state

    def load_moments(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of `moments`; KeyError or RuntimeError where the state is not of this model."""
        for name, *tensors in self._named_moments():
            for moment, tensor in zip(MOMENTS, (*tensors, self._step), strict=True):
                tensor.copy_(torch.from_numpy(np.array(state[f"{moment}.{name}"])).reshape(tensor.shape))

    def _run(self, static: StaticBatch) -> None:
        """Take the step on what the buffers hold."""
        self._work(static.inputs)

    def _work(self, inputs: StaticInputs) -> None:
        config, items = self._config, self.model.item_embedding
        # The clicks' vectors are a leaf of their own, as in `Stepper`: no N x d array but the loss's gradient.
        clicked = items.detach()[inputs.clicks].requires_grad_()
        queries = self.model.interests(
            clicked, inputs.offsets, tiles=inputs.tiles, seed=inputs.seed, compute_dtype=self._encoder_dtype
        )[inputs.rows]
        loss = aw_loss(
            queries,
            items,
            inputs.targets,
            scale=config.scale,
            gamma=config.gamma,
            weights=inputs.weights,
            negatives=config.negatives,
            compute_dtype=self._dtype,
            backend=config.loss_backend,
        )
        d_items, d_clicked, *d_small = torch.autograd.grad(loss, [items, clicked, *self._small])
        add_rows(d_items, inputs.clicks, d_clicked)
        self._tally.add(loss.detach(), inputs.mass)
        gradients = (d_items.reshape(-1), torch.cat([gradient.reshape(-1) for gradient in d_small]))
        weights = (items.detach().view(-1), self._flat)
        groups = [AdamGroup(w, g, *moments) for w, g, moments in zip(weights, gradients, self._moments, strict=True)]
        adam_step(
            groups,
            self._step,
            self._rate,
            apply=self._tally.healthy,
            settings=self._settings,
            backend=self._adam_backend,
        )

    def _listen(self) -> None:
        told = self._tally.wait() if self._steps == 1 else self._tally.told()
        if told is not None:
            self._latest, self.failed_step = told.loss, told.failed
        if self._steps % _READ_EVERY == 0:
            self._tally.ask()

    def _named_moments(self) -> list[tuple[str, Tensor, Tensor]]:
        """(name, first moments, second moments) of every weight, as views in its shape."""
        items = self.model.item_embedding
        (items_first, items_second), (first, second) = self._moments
        sizes = [parameter.numel() for parameter in self._small]
        views = {id(p): pair for p, *pair in zip(self._small, first.split(sizes), second.split(sizes), strict=True)}
        views[id(items)] = [items_first, items_second]
        return [
            (name, views[id(p)][0].view(p.shape), views[id(p)][1].view(p.shape))
            for name, p in self.model.named_parameters()
        ]


def _flatten(parameters: list[torch.nn.Parameter]) -> Tensor:
    """One buffer with the parameters' values, of which they become views: float32[n]."""
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.data = part.view(parameter.shape)
    return flat
