"""The public op: one AdamW step over groups of weights, clipped by the norm of the whole gradient."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from torch import Tensor

from mtaw_fast.kernels import dispatch
from mtaw_fast.kernels.adam import fused, native, reference
from mtaw_fast.kernels.adam.request import AdamGroup, AdamRequest, AdamSettings

BACKENDS: dict[str, ModuleType] = {"triton": fused, "native": native, "reference": reference}  # fastest first


def adam_step(
    groups: Sequence[AdamGroup],
    step: Tensor,
    learning_rate: Tensor,
    *,
    apply: Tensor,
    settings: AdamSettings,
    backend: str = "auto",
    threads: int | None = None,
) -> Tensor:
    """Take one AdamW step (decoupled decay; Loshchilov and Hutter, 2019) after clipping by the global norm.

    All arguments are read on the device and none is waited for, so a captured CUDA graph replays with whatever they
    hold then. The same bits on every run.

    Parameters
    ----------
    groups : sequence of AdamGroup
        Weights with gradients and moments; weights and moments are updated in place.
    step : float32[]
        Steps taken so far, counted up in place.
    learning_rate : float32[] or float64[]
        Of this step; 'triton' takes only float32.
    apply : bool[]
        Where it is false nothing changes, `step` included.
    settings : AdamSettings
        Decay rates of the moments, and the norm to clip to.
    backend : {'auto', 'triton', 'native', 'reference'}, default 'auto'
        'auto' takes the first that can.
    threads : int, optional
        Of 'native', which gives the same bits for every number; PyTorch's number by default.

    Returns
    -------
    float[]
        The norm of the whole gradient before clipping.

    Raises
    ------
    UsageError
        On malformed arguments.
    UnsupportedError
        Where no backend takes them.
    """
    request = AdamRequest(groups, step, learning_rate, apply, settings, threads)
    request.check()
    return BACKENDS[choose_backend(request, backend)].adam_step(request)


def choose_backend(request: AdamRequest, backend: str) -> str:
    """Name of the backend that takes the request; the choice is logged once."""
    return dispatch.choose_backend("adam_step", BACKENDS, request, backend)
