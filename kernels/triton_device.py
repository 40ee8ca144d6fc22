"""Check where Triton kernels can run, without importing Triton."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from mtaw_fast.errors.install import install_packages

_MIN_CAPABILITY = (8, 0)  # bf16 matrix products and asynchronous copies


def not_supported_reasons(*tensors: Tensor) -> list[str]:
    """Return why Triton kernels cannot take these tensors; empty if they can."""
    if not installed():
        return [f"the package 'triton' is not installed: {install_packages('triton>=3.6')}"]
    devices = {tensor.device for tensor in tensors}
    if len(devices) > 1:
        return [f"the tensors are on several devices: {', '.join(sorted(map(str, devices)))}"]
    device = devices.pop()
    if device.type == "cpu":
        return [] if interpreting() else ["the tensors are on the CPU (Triton needs a GPU, or TRITON_INTERPRET=1)"]
    if device.type != "cuda":
        return [f"the tensors are on {device} (Triton needs a GPU)"]
    if interpreting():
        return []
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < _MIN_CAPABILITY:
        return ["the GPU is older than compute capability 8.0"]
    return []


@cache
def installed() -> bool:
    """Return whether Triton can be imported."""
    return find_spec("triton") is not None


def interpreting() -> bool:
    """Return whether Triton runs kernels in its interpreter; the environment decides it before Triton's import."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")
