"""AdamW with global clipping in C++ for CPUs (`kernels/native/adam`): a pass for the norm, a pass for the update.

PyTorch's way, `clip_grad_norm_` and then a fused AdamW, passes over the gradient twice more, and with the one thread
that an encoder's small operations are worth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtaw_fast.kernels.adam.request import AdamRequest
from mtaw_fast.kernels.native import adam as native_adam


def not_supported_reasons(request: AdamRequest) -> list[str]:
    """Return why this backend cannot take the request; empty if it can."""
    reasons = []
    weights = request.groups[0].weights
    if weights.device.type != "cpu":
        reasons.append("weights must be on the CPU")
    if weights.dtype != torch.float32:
        reasons.append("weights must be float32")
    return reasons


@torch.no_grad()
def adam_step(request: AdamRequest) -> Tensor:
    """Update in place; returns the gradient's norm before clipping: float32[]."""
    settings = request.settings
    request.step.add_(request.apply)  # counts the steps taken
    norm = native_adam.adam_step(
        [[tensor.detach().numpy() for tensor in group] for group in request.groups],
        step=int(request.step.item()) if request.apply.item() else 0,
        learning_rate=request.learning_rate.item(),
        beta1=settings.beta1,
        beta2=settings.beta2,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
        threads=torch.get_num_threads() if request.threads is None else request.threads,
    )
    return torch.tensor(norm, dtype=torch.float32)
