"""Triton kernels at work: on the GPU where there is one, else in Triton's interpreter on the CPU.

The interpreter must be chosen (TRITON_INTERPRET=1) before Triton is imported and then holds for the whole
process, where it would also make CPU tensors fit for Triton in everybody else's tests. So without a GPU the
files of this folder are left to `tests/kernels/test_on_triton.py`, which runs each in a process of its own.
By hand: `TRITON_INTERPRET=1 python -m pytest tests/kernels/on_triton`.
"""

from __future__ import annotations

import pytest
import torch

from mtaw_fast.kernels.triton_device import installed, interpreting

if not installed() or not (interpreting() or torch.cuda.is_available()):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def device() -> torch.device:
    """Where the kernels under test take their tensors from."""
    return torch.device("cpu" if interpreting() else "cuda")


@pytest.fixture
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.empty and torch.empty_like give NaN in floating tensors, so that an element left unwritten shows."""
    for name in ("empty", "empty_like"):
        allocate = getattr(torch, name)

        def poisoned(*args: object, _allocate: object = allocate, **kwargs: object) -> torch.Tensor:
            tensor = _allocate(*args, **kwargs)  # type: ignore[operator]
            return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

        monkeypatch.setattr(torch, name, poisoned)
