"""Adam's state of a model: the item vectors, all other weights in one buffer, and the moments of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.config import Config
from mtaw_fast.kernels import triton_device
from mtaw_fast.kernels.adam import AdamGroup, AdamSettings, adam_step
from mtaw_fast.model.mtaw import MTAW

BETAS = (0.9, 0.999)
CLIP_EPS = 1e-6  # added to a norm before it divides, as torch.nn.utils.clip_grad_norm_ does
MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # Adam's state of a weight


class AdamState:
    """Owns the moments of a model and updates its weights, clipped by the norm of the whole gradient.

    All weights except the item vectors become views of one buffer, so that one call updates them.

    model: float weights on one device. config: reads weight_decay and clip_norm. backend: of `adam_step`. threads: of
    the native backend.
    """

    def __init__(self, model: MTAW, config: Config, *, backend: str = "auto", threads: int | None = None) -> None:
        self._backend, self._threads = backend, threads
        self._model, self._named = model, dict(model.named_parameters())
        self._items = model.item_embedding
        self.small = [parameter for parameter in self._named.values() if parameter is not self._items]
        device = self._items.device
        self._settings = AdamSettings(
            *BETAS, eps=1e-8, weight_decay=config.optimizer.weight_decay, clip_norm=config.optimizer.clip_norm
        )
        self._weights = (self._items.detach().view(-1), _flatten(self.small))
        self._moments = [(torch.zeros_like(weights), torch.zeros_like(weights)) for weights in self._weights]
        self._step = torch.zeros((), device=device)
        # PyTorch's optimizers compute with a float64 rate, Triton's kernels read float32.
        is_triton = not triton_device.not_supported_reasons(self._items)
        self.rate = torch.zeros((), dtype=torch.float32 if is_triton else torch.float64, device=device)
        self._always = torch.ones((), dtype=torch.bool, device=device)

    def update(self, d_items: Tensor, d_small: Sequence[Tensor], apply: Tensor | None = None) -> None:
        """Take a step at the learning rate `self.rate`.

        d_items: float[N, d], gradient of the item vectors. d_small: gradients of `self.small`, in its order. apply:
        bool[], on the device; if false nothing changes.
        """
        gradients = (d_items.reshape(-1), torch.cat([gradient.reshape(-1) for gradient in d_small]))
        adam_step(
            [AdamGroup(w, g, *pair) for w, g, pair in zip(self._weights, gradients, self._moments, strict=True)],
            self._step,
            self.rate,
            apply=self._always if apply is None else apply,
            settings=self._settings,
            backend=self._backend,
            threads=self._threads,
        )
        self._model.limit_recent()

    def moments(self) -> dict[str, Tensor]:
        """Return Adam's state under '<moment>.<weight>', as views in the weights' shapes."""
        (items_first, items_second), (first, second) = self._moments
        sizes = [parameter.numel() for parameter in self.small]
        views = {id(p): pair for p, *pair in zip(self.small, first.split(sizes), second.split(sizes), strict=True)}
        views[id(self._items)] = [items_first, items_second]
        state: dict[str, Tensor] = {}
        for name, p in self._named.items():
            tensors = (*(view.view(p.shape) for view in views[id(p)]), self._step)
            state |= {f"{moment}.{name}": tensor for moment, tensor in zip(MOMENTS, tensors, strict=True)}
        return state

    def load_moments(self, state: Mapping[str, np.ndarray]) -> None:
        """Load what `moments` returns; KeyError or RuntimeError if the state is of another model."""
        for name, tensor in self.moments().items():
            tensor.copy_(torch.from_numpy(np.array(state[name])).reshape(tensor.shape))


def _flatten(parameters: list[torch.nn.Parameter]) -> Tensor:
    """Return one buffer float[n] with the parameters' values, and make the parameters views of it."""
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.data = part.view(parameter.shape)
    return flat
