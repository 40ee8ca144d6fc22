"""AdamW with global clipping in three Triton kernels; the update passes over every array once.

Squares are summed by fixed blocks (`square_sums_kernel`), one program adds the partial sums in a fixed order and
computes what is common to all weights (`scalars_kernel`), and `adam_kernel` updates. README.md explains why the update
is not part of the loss's backward.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mtaw_fast.kernels import triton_device
from mtaw_fast.kernels.adam.configs import DEFAULT, AdamLaunch
from mtaw_fast.kernels.adam.request import AdamRequest

_SCALARS = 5


def not_supported_reasons(request: AdamRequest) -> list[str]:
    """Return why this backend cannot take the request; empty if it can."""
    reasons = triton_device.not_supported_reasons(*(group.weights for group in request.groups))
    if request.groups[0].weights.dtype != torch.float32:
        reasons.append("weights must be float32")
    if request.learning_rate.dtype != torch.float32:
        reasons.append("learning_rate must be float32")
    return reasons


@torch.no_grad()
def adam_step(request: AdamRequest, launch: AdamLaunch = DEFAULT) -> Tensor:
    """Update in place; returns the gradient's norm before clipping: float32[]."""
    with torch.cuda.device_of(request.groups[0].weights):  # Triton launches on the current device
        return _launch(request, launch)


def _launch(request: AdamRequest, launch: AdamLaunch) -> Tensor:
    from mtaw_fast.kernels.adam.triton_kernels.gradient_norm import scalars_kernel, square_sums_kernel
    from mtaw_fast.kernels.adam.triton_kernels.update import adam_kernel

    settings, groups = request.settings, request.groups
    options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages}
    counts = [_blocks(len(group.weights), launch.sum_block) for group in groups]
    partials = groups[0].weights.new_empty(sum(counts))
    for group, part in zip(groups, partials.split(counts), strict=True):
        if len(part):
            square_sums_kernel[(len(part),)](
                group.gradients, part, len(group.weights), BLOCK=launch.sum_block, **options
            )
    scalars = partials.new_empty(_SCALARS)
    scalars_kernel[(1,)](
        partials,
        len(partials),
        request.step,
        request.learning_rate,
        request.apply,
        scalars,
        settings.weight_decay,
        settings.clip_norm,
        LOG_BETA1=_log(settings.beta1),
        LOG_BETA2=_log(settings.beta2),
        CLIP=settings.clip_norm > 0,
        BLOCK=launch.partials_block,
        **options,
    )
    for group in groups:
        blocks = _blocks(len(group.weights), launch.block)
        if blocks:
            adam_kernel[(blocks,)](
                *group,
                scalars,
                request.apply,
                len(group.weights),
                settings.eps,
                BETA1=settings.beta1,
                BETA2=settings.beta2,
                BLOCK=launch.block,
                **options,
            )
    return scalars[0]


def _blocks(n: int, block: int) -> int:
    return -(-n // block)


def _log(beta: float) -> float:
    """log(beta); of 0 a number whose exponential is 0."""
    return math.log(beta) if beta > 0 else -1e9
