"""The request that an Adam backend gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mtaw_fast.errors import UsageError


class AdamGroup(NamedTuple):
    """float[n] each, contiguous, of one dtype and device; all but the gradients are updated in place."""

    weights: Tensor
    gradients: Tensor
    first_moments: Tensor
    second_moments: Tensor


@dataclass(frozen=True, slots=True)
class AdamSettings:
    """Adam's constants. clip_norm: largest norm of the gradient of all groups together; 0 does not clip."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        is_valid = (
            0 <= self.beta1 < 1
            and 0 <= self.beta2 < 1
            and self.eps > 0
            and self.weight_decay >= 0
            and self.clip_norm >= 0
        )
        if not is_valid:
            raise UsageError(
                f"adam_step: {self}: betas must be in [0, 1), eps above 0, weight_decay and clip_norm at least 0"
            )


@dataclass(frozen=True, slots=True)
class AdamRequest:
    """Arguments of `adam_step`, checked; see there for their meaning."""

    groups: Sequence[AdamGroup]
    step: Tensor
    learning_rate: Tensor
    apply: Tensor
    settings: AdamSettings
    threads: int | None = None

    def check(self) -> None:
        """Raise UsageError where the tensors do not fit together."""
        if not self.groups:
            raise UsageError("adam_step: there is no group of weights to update")
        device, dtype = self.groups[0].weights.device, self.groups[0].weights.dtype
        for number, group in enumerate(self.groups):
            for name, tensor in group._asdict().items():
                fits = tensor.ndim == 1 and tensor.shape == group.weights.shape and tensor.is_contiguous()
                if not fits or tensor.dtype != dtype or tensor.device != device:
                    raise UsageError(
                        f"adam_step: group {number}: {name} must be contiguous {dtype}[{group.weights.numel()}] on "
                        f"{device}, not {tensor.dtype}{list(tensor.shape)} on {tensor.device}"
                    )
        for name, tensor, kinds in (
            ("step", self.step, (torch.float32,)),
            ("learning_rate", self.learning_rate, (torch.float32, torch.float64)),
            ("apply", self.apply, (torch.bool,)),
        ):
            if tensor.shape != () or tensor.dtype not in kinds or tensor.device != device:
                raise UsageError(
                    f"adam_step: {name} must be {' or '.join(map(str, kinds))}[] on {device}, not "
                    f"{tensor.dtype}{list(tensor.shape)} on {tensor.device}"
                )

    def describe(self) -> str:
        """Sizes and dtypes on one line, for error messages."""
        weights = self.groups[0].weights
        sizes = ", ".join(str(group.weights.numel()) for group in self.groups)
        return f"groups of {sizes} {weights.dtype} weights on {weights.device}"
