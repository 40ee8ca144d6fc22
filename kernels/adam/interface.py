"""The public op: one AdamW step over groups of weights, clipped by the norm of the whole gradient."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mtaw_fast.kernels import dispatch
from mtaw_fast.kernels.adam import fused, reference
from mtaw_fast.kernels.adam.request import AdamGroup, AdamRequest, AdamSettings

BACKENDS = {"triton": fused, "reference": reference}  # fastest first


def adam_step(
    groups: Sequence[AdamGroup],
    step: Tensor,
    learning_rate: Tensor,
    *,
    apply: Tensor,
    settings: AdamSettings,
    backend: str = "auto",
) -> Tensor:
    """One AdamW step (decoupled decay; Loshchilov and Hutter, 2019) after clipping by the global norm.

    groups: weights with gradients and moments; weights and moments are updated in place.
    step: float32[], steps taken so far, counted up in place. learning_rate: float32[].
    apply: bool[]; where it is false nothing changes, `step` included. All are read on the device: no argument is
    waited for, so a captured CUDA graph replays with whatever they hold then.
    backend: 'auto' takes the first that can; or a name of BACKENDS.

    Returns the norm of the whole gradient before clipping: float[]. The same bits on every run.
    Raises UsageError on malformed arguments, UnsupportedError where no backend takes them.
    """
    request = AdamRequest(groups, step, learning_rate, apply, settings)
    request.check()
    return BACKENDS[choose_backend(request, backend)].adam_step(request)


def choose_backend(request: AdamRequest, backend: str) -> str:
    """Name of the backend that takes the request; the choice is logged once."""
    return dispatch.choose_backend("adam_step", BACKENDS, request, backend)
