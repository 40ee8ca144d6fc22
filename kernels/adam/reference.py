"""AdamW with global clipping in plain PyTorch: the reference for the fused backends."""

from __future__ import annotations

import torch
from torch import Tensor

from mtaw_fast.kernels.adam.request import AdamRequest

CLIP_EPS = 1e-6  # torch.nn.utils.clip_grad_norm_'s


def not_supported_reasons(request: AdamRequest) -> list[str]:
    """Why this backend cannot take the request: it takes everything."""
    del request
    return []


@torch.no_grad()
def adam_step(request: AdamRequest) -> Tensor:
    """Update in place; returns the gradient's norm before clipping: float[]."""
    settings, apply = request.settings, request.apply
    norms = torch.stack([torch.linalg.vector_norm(group.gradients) for group in request.groups])
    norm = torch.linalg.vector_norm(norms)
    request.step.add_(apply)  # counts the steps taken
    step, rate = request.step.double(), request.learning_rate.double()
    step_size = rate / (1 - settings.beta1**step)
    correction = (1 - settings.beta2**step).sqrt()
    clip = (settings.clip_norm / (norm + CLIP_EPS)).clamp_max(1.0) if settings.clip_norm > 0 else norm.new_ones(())
    for weights, gradients, first, second in request.groups:
        clipped = gradients * clip
        new_first = first.lerp(clipped, 1 - settings.beta1)
        new_second = settings.beta2 * second + (1 - settings.beta2) * clipped.square()
        denominator = new_second.sqrt() / correction.to(second.dtype) + settings.eps
        decayed = weights * (1 - rate * settings.weight_decay).to(weights.dtype)
        new_weights = decayed - step_size.to(weights.dtype) * new_first / denominator
        for old, new in ((weights, new_weights), (first, new_first), (second, new_second)):
            old.copy_(torch.where(apply, new, old))
    return norm
